"""The tools an agent may call, handed in from above, so that the Director and an MCP client call the same functions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import InvalidInput, SoulError

READING = ("recall",)
"""Those that only read; what others write, somebody else reads."""


@dataclass(frozen=True)
class AgentTool:
    """One callable tool.

    `schema` is the JSON schema of the arguments; `call` takes them, the agent's name and whether it is shown what
    is private, and returns the tool's text or raises a SoulError.
    """

    name: str
    description: str
    schema: Mapping[str, Any]
    call: Callable[[dict[str, Any], str, bool], Awaitable[str]]


class Toolbox:
    """The tools of one agent, by name. `private`: it is shown what must not leave the house."""

    def __init__(self, tools: Sequence[AgentTool] = (), agent: str = "director", private: bool = False) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._agent = agent
        self._private = private

    def of(self, agent: str, names: Sequence[str], private: bool = False) -> Toolbox:
        """The named tools in the hands of another agent; InvalidInput for one that there is not."""
        for name in names:
            if name not in self._tools:
                raise InvalidInput(
                    f"The agent {agent} asks for a tool {name!r}.", f"In agents.toml use: {', '.join(self._tools)}."
                )
        return Toolbox([self._tools[name] for name in names], agent, private)

    @property
    def functions(self) -> list[dict[str, Any]]:
        """The function descriptions that chat templates take (the OpenAI form)."""
        return [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.schema)},
            }
            for tool in self._tools.values()
        ]

    async def call(self, name: str, arguments: dict[str, Any]) -> tuple[str, bool]:
        """(text, ok). An error is returned as words, since the model that called must read it and go on."""
        tool = self._tools.get(name)
        if tool is None:
            return f"There is no tool {name!r}. Tools: {', '.join(self._tools) or 'none'}.", False
        try:
            return await tool.call(arguments, self._agent, self._private), True
        except SoulError as error:
            return str(error), False

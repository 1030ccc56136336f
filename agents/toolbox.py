"""The tools an agent may call, handed in from above, so that the Director and an MCP client call the same functions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import SoulError


@dataclass(frozen=True)
class AgentTool:
    """One callable tool.

    `schema` is the JSON schema of the arguments; `call` takes them and returns the tool's text, or raises a SoulError.
    """

    name: str
    description: str
    schema: Mapping[str, Any]
    call: Callable[[dict[str, Any]], Awaitable[str]]


class Toolbox:
    """The tools of one agent, by name."""

    def __init__(self, tools: Sequence[AgentTool] = ()) -> None:
        self._tools = {tool.name: tool for tool in tools}

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
            return await tool.call(arguments), True
        except SoulError as error:
            return str(error), False

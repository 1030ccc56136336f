"""What all Soul's tools have in common: strict arguments, errors in words, one log line and one record per call.

The only place where a SoulError becomes a ToolError. Knows the SDK's tool class; does not know what a tool does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp_types import CallToolResult, TextContent, ToolAnnotations
from pydantic import ConfigDict, PrivateAttr, ValidationError, create_model

from engine.errors import SoulError
from tools.caller import Caller, caller_of
from tools.house import House

if TYPE_CHECKING:
    from memory.packets import Kind, Packet

log = structlog.get_logger()

READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
ADDS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)
SETS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
REWRITES = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=False, open_world_hint=False)

RECORDED_CHARACTERS = 8_000
"""Longest result that is kept as a packet of its own; what it was made of is in memory anyway."""


class SoulTool(Tool):
    """A tool whose arguments are strict and whose errors are a fact and a remedy."""

    _house: House = PrivateAttr()
    _recorded: bool = PrivateAttr(default=True)

    @classmethod
    def make(
        cls,
        house: House,
        function: Callable[..., Any],
        *,
        title: str,
        description: str,
        annotations: ToolAnnotations,
        recorded: bool = True,
        always_load: bool = False,
    ) -> SoulTool:
        """Wraps an async function; `recorded` calls are written to memory as packets (kinds call and result).

        The grammar that holds a model's calls keeps the order of the function's arguments. So those come first by
        which the kinds of a call differ: all of it is decided at one place, and a small model decides better so.

        `always_load` asks Claude Code not to hide the tool behind its tool search.
        """
        meta = {"anthropic/alwaysLoad": True} if always_load else None
        tool = cls.from_function(
            function, title=title, description=description, annotations=annotations, structured_output=False, meta=meta
        )
        model = tool.fn_metadata.arg_model
        # An argument that a tool does not have is a misunderstanding, and silence would hide it.
        strict = create_model(model.__name__, __base__=model)
        strict.model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")
        strict.model_rebuild(force=True)
        tool.fn_metadata.arg_model = strict
        tool.parameters = _slim(strict.model_json_schema(by_alias=True))
        assert isinstance(tool, cls)
        tool._house = house
        tool._recorded = recorded
        return tool

    async def run(self, arguments: dict[str, Any], context: Context[Any, Any], convert_result: bool = False) -> Any:
        """Validates, calls, records.

        Raises:
            ToolError: the arguments or the house say no; its text is the fact and the remedy.
        """
        caller = caller_of(context)
        started = time.monotonic()
        with structlog.contextvars.bound_contextvars(tool=self.name, client=caller.client, session=caller.session):
            try:
                values = self.fn_metadata.validate_arguments(arguments)
                pass_directly = {self.context_kwarg: context} if self.context_kwarg else {}
                result = await self.fn_metadata.call_fn(self.fn, self.is_async, values, pass_directly)
                converted = self.fn_metadata.convert_result(result)
            except ValidationError as error:
                log.info("tool refused its arguments", fields=[".".join(map(str, e["loc"])) for e in error.errors()])
                raise ToolError(_in_words(self, error)) from error
            except SoulError as error:
                log.info("tool said no", error=str(error))
                await self._record(caller, arguments, f"error: {error}", ok=False)
                raise ToolError(str(error)) from error
            except Exception as error:
                log.exception("tool failed")
                await self._record(caller, arguments, f"error: {type(error).__name__}", ok=False)
                raise ToolError(
                    f"{self.name} failed inside: {type(error).__name__}. Nothing that was answered before is lost; "
                    "see logs/daemon.log, and `soul doctor` checks every part."
                ) from error
            log.info("tool answered", seconds=round(time.monotonic() - started, 4))
            if isinstance(converted, CallToolResult):
                await self._record(caller, arguments, _text(converted), ok=True)
        return converted if convert_result else result

    async def _record(self, caller: Caller, arguments: dict[str, Any], result: str, ok: bool) -> None:
        memory = self._house.memory.peek()
        if memory is None or not self._recorded or caller.agent:
            return  # an agent's own calls are packets of its turn
        from memory.text import cleaned

        said = cleaned(f"{self.name}({json.dumps(arguments, ensure_ascii=False, default=str)})")[:RECORDED_CHARACTERS]
        answered = cleaned(result)[:RECORDED_CHARACTERS] or "(nothing)"
        facts = {"tool": self.name, "ok": ok}
        try:
            await memory.packets.write(
                [
                    remembered("call", said, caller, caller.client, 1, **facts),
                    remembered("result", answered, caller, f"tool:{self.name}", 2, **facts),
                ]
            )
        except SoulError as error:
            # The call itself was answered by then; failing it because its record failed would be worse.
            log.warning("a call could not be recorded", error=str(error))


def remembered(kind: Kind, prose: str, caller: Caller, origin: str, sequence: int = 0, **facts: Any) -> Packet:
    """A packet of what happened in this very call, in the caller's session."""
    from memory.packets import Packet
    from memory.uuid7 import uuid7

    return Packet(
        id=uuid7(),
        time=datetime.now(UTC),
        agent=caller.agent or caller.client,
        session=caller.session,
        sequence=sequence,
        kind=kind,
        prose=prose,
        origin=origin,
        metadata=facts,
    )


def _text(result: CallToolResult) -> str:
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


def _slim(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without what pydantic adds and every client's context would pay for.

    Titles repeat the names; `anyOf X or null, default null` says no more than that the argument is optional.
    """
    properties: dict[str, Any] = {}
    for name, prop in schema.get("properties", {}).items():
        slim = {key: value for key, value in prop.items() if key != "title"}
        if slim.get("default", "") is None:
            (only,) = [option for option in slim.pop("anyOf") if option.get("type") != "null"]
            del slim["default"]
            slim = {**only, **slim}
        properties[name] = slim
    return {**{key: value for key, value in schema.items() if key != "title"}, "properties": properties}


def _in_words(tool: Tool, error: ValidationError) -> str:
    lines: list[str] = []
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"]) or "arguments"
        if problem["type"] == "extra_forbidden":
            lines.append(f"`{name}` is not an argument of {tool.name}.")
        elif problem["type"] == "missing":
            lines.append(f"`{name}` is missing.")
        else:
            lines.append(f"`{name}`: {problem['msg']}.")
    known = ", ".join(tool.parameters.get("properties", {}))
    return f"{tool.name} cannot use these arguments: {' '.join(lines)} Its arguments are: {known or 'none'}."

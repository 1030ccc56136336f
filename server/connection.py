"""One MCP session over one connection: the SDK's server between the lines that come and the lines that go.

Knows JSON-RPC's framing errors and how a session ends; does not know who may connect or what the tools do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import mcp_types as types
import structlog
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.server.mcpserver import MCPServer
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

from server.framing import TooLong, error_line, salvaged_id, too_long_text
from server.wire import Wire

log = structlog.get_logger()

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
INTERNAL_ERROR = -32603


async def serve_session(
    wire: Wire,
    server: MCPServer[Any],
    *,
    answered: Callable[[], None],
    introduced: Callable[[str], None],
) -> None:
    """Serves MCP until the client is gone; calls of a client that vanishes are cancelled.

    Args:
        wire: The connection, its hello already taken.
        server: Shared by all connections; a session of its own is made here.
        answered: Called when the first line has been sent.
        introduced: Called with the client's name and version when it says them.
    """
    to_server, from_wire = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    to_wire, from_server = anyio.create_memory_object_stream[SessionMessage](0)
    # The public ways to run an MCPServer own the transport; running it over given streams is the low level's.
    low = server._lowlevel_server  # pyright: ignore[reportPrivateUsage]
    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            await low.run(from_wire, to_wire, low.create_initialization_options())

        tasks.start_soon(_write, wire, from_server, answered)
        tasks.start_soon(run)
        await _read(wire, to_server, introduced)


async def refuse_session(wire: Wire, fact: str, remedy: str) -> None:
    """Answers every request with one error, so that a client which cannot be served learns why."""
    while (line := await wire.receive()) is not None:
        request_id = salvaged_id(line)
        if request_id is not None:
            try:
                await wire.send(error_line(request_id, INVALID_REQUEST, fact, remedy))
            except anyio.BrokenResourceError:
                return


async def _read(
    wire: Wire, to_server: MemoryObjectSendStream[SessionMessage | Exception], introduced: Callable[[str], None]
) -> None:
    async with to_server:
        while (line := await wire.receive()) is not None:
            try:
                message = _message(line)
            except _Unreadable as error:
                log.warning("unreadable message", reason=str(error))
                try:
                    await wire.send(error_line(salvaged_id(line), error.code, str(error)))
                except anyio.BrokenResourceError:
                    return
                continue
            if isinstance(message, types.JSONRPCRequest) and (name := _client_name(message)):
                introduced(name)
            try:
                await to_server.send(SessionMessage(message))
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                return  # the session ended from our side


async def _write(
    wire: Wire, from_server: MemoryObjectReceiveStream[SessionMessage], answered: Callable[[], None]
) -> None:
    gone = False
    async with from_server:
        async for item in from_server:
            if gone:
                continue  # taken and dropped, so that no handler waits for a client that is not there
            try:
                await wire.send(_line(item))
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                gone = True
            answered()


class _Unreadable(Exception):
    def __init__(self, code: int, text: str) -> None:
        self.code = code
        super().__init__(text)


def _message(line: bytes | TooLong) -> types.JSONRPCMessage:
    """The JSON-RPC message of a line; _Unreadable says why it is none."""
    if isinstance(line, TooLong):
        raise _Unreadable(INVALID_REQUEST, too_long_text(line))
    try:
        return types.jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValidationError as error:
        broken = any(one["type"] == "json_invalid" for one in error.errors(include_url=False, include_input=False))
    try:
        line.decode()
    except UnicodeDecodeError as error:
        raise _Unreadable(
            PARSE_ERROR, f"The message is not UTF-8 (byte {error.start}). Send JSON in UTF-8, one message a line."
        ) from None
    if broken:
        raise _Unreadable(PARSE_ERROR, "The message is not valid JSON. Send one JSON-RPC message a line.")
    raise _Unreadable(INVALID_REQUEST, "The message is not JSON-RPC 2.0. It needs jsonrpc, and method or result.")


def _line(item: SessionMessage) -> bytes:
    """The message as a line; one that cannot be written down becomes an error, so that nobody waits for it."""
    try:
        return item.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n"
    except Exception as error:
        log.exception("a message could not be written down")
        fact = f"The answer could not be written as JSON: {type(error).__name__}."
        return error_line(getattr(item.message, "id", None), INTERNAL_ERROR, fact, "See logs/daemon.log.")


def _client_name(message: types.JSONRPCRequest) -> str:
    """`name version` as the client introduces itself: in the handshake of 2025, in any request of 2026."""
    params = message.params or {}
    info: Any = params.get("clientInfo") if message.method == "initialize" else None
    if info is None:
        meta: Any = params.get("_meta")
        info = meta.get(types.CLIENT_INFO_META_KEY) if isinstance(meta, dict) else None
    if not isinstance(info, dict) or not info.get("name"):
        return ""
    return f"{info['name']} {info.get('version', '')}".strip()[:100]

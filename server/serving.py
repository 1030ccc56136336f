"""The running daemon: accepts connections, holds the house, and knows when to leave.

What is served is `tools`', how a part is opened is `building`'s, what a command does is `control`'s, one MCP session
is `connection`'s.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio
import structlog
from anyio.abc import ByteStream, SocketListener, TaskGroup

from engine.errors import Forbidden, SoulError
from server import VERSION, building
from server.claim import Claim
from server.connection import refuse_session, serve_session
from server.presence import Presence
from server.settings import Loaded
from server.wire import Hello, Wire, hello
from tools.caller import DEPTH, SESSION
from tools.house import House

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

log = structlog.get_logger()

MakeServer = Callable[[House, bool, frozenset[str]], "MCPServer[Any]"]
"""(house, read only, toolsets or none for all) to the server that clients with these limits share."""

CLOSE_S = 25.0
"""How long the parts may take to close before the process leaves all the same; nothing depends on a clean exit."""

FIRST_ANSWER_S = 1.0
"""How long the heavy imports wait for the first client to be answered."""

ACCEPT_AGAIN_S = 0.2

HELLO_S = 30.0
"""How long a connection may say nothing at all."""


class Serving:
    """One run of the daemon."""

    def __init__(
        self,
        loaded: Loaded,
        claim: Claim,
        make_server: MakeServer,
        *,
        foreground: bool,
        http: socket.socket | None,
        stdio: bool,
    ) -> None:
        self.loaded = loaded
        settings = loaded.settings
        self.house = House(home=settings.home, allowed_roots=settings.allowed_roots, version=VERSION)
        self.presence = Presence()
        self.http_url: str | None = None
        self._claim = claim
        self._make_server = make_server
        self._foreground = foreground
        self._http = http
        self._stdio = stdio
        self._servers: dict[tuple[bool, frozenset[str]], MCPServer[Any]] = {}
        self._answered = anyio.Event()
        self._stopping = anyio.Event()

    async def run(self) -> None:
        """Serves until told to leave."""
        self.server_for(False, frozenset())
        async with anyio.create_task_group() as parts, anyio.create_task_group() as tasks:
            listener = await SocketListener.from_socket(self._claim.socket)
            await tasks.start(self._watch_signals)
            parts.start_soon(self._hold_house)
            tasks.start_soon(self._accept, listener, tasks)
            if self._http is not None:
                from server.http import serve_http

                await tasks.start(serve_http, self, self._http)
            if self._stdio:
                tasks.start_soon(self._serve_stdio)
            if not self._foreground and self.loaded.settings.idle_minutes > 0:
                tasks.start_soon(self._watch_idle)
            await self._stopping.wait()
            self._leave_in(CLOSE_S)
            self._claim.hang_up()
            tasks.cancel_scope.cancel()
            parts.cancel_scope.cancel()

    def stop(self, reason: str) -> None:
        """Makes `run` return, after the parts are closed."""
        if not self._stopping.is_set():
            log.info("stopping", reason=reason)
        self._stopping.set()

    def server_for(self, read_only: bool, toolsets: frozenset[str]) -> MCPServer[Any]:
        """The MCP server for clients with these limits, in addition to the daemon's own; sessions share it.

        Raises:
            InvalidInput: a toolset does not exist.
            Forbidden: the daemon offers none of the toolsets asked for.
        """
        read_only = read_only or self.loaded.settings.read_only
        offered = frozenset(self.loaded.settings.toolsets)
        if offered and toolsets and not offered & toolsets:
            raise Forbidden(
                f"This home offers only the toolsets {', '.join(sorted(offered))}; the client asks for none of them.",
                "Change --toolsets of the client, or `toolsets` in config.toml.",
            )
        toolsets = offered & toolsets if offered and toolsets else offered | toolsets
        if (read_only, toolsets) not in self._servers:
            self._servers[read_only, toolsets] = self._make_server(self.house, read_only, toolsets)
        return self._servers[read_only, toolsets]

    def busy(self) -> bool:
        """Whether something runs that nobody is connected for: a job."""
        agents = self.house.agents.peek()
        return agents is not None and agents.jobs.running > 0

    # Tasks of the daemon.

    async def _hold_house(self) -> None:
        with anyio.move_on_after(FIRST_ANSWER_S):
            await self._answered.wait()
        await building.hold(self.house, self.loaded.settings)

    async def _watch_signals(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
            task_status.started()
            async for number in received:
                self.stop(signal.Signals(number).name)

    async def _watch_idle(self) -> None:
        minutes = self.loaded.settings.idle_minutes
        await self.presence.wait_idle(minutes * 60, self.busy)
        self.stop(f"idle for {minutes:g} minutes")

    async def _accept(self, listener: SocketListener, tasks: TaskGroup) -> None:
        async with listener:
            while True:
                try:
                    stream = await listener.accept()
                except (OSError, anyio.BrokenResourceError) as error:
                    # No file descriptor left, say: those who are connected go on, and who comes waits.
                    log.error("a connection could not be accepted", error=str(error.__cause__ or error))
                    await anyio.sleep(ACCEPT_AGAIN_S)
                    continue
                tasks.start_soon(self._connected, stream)

    async def _connected(self, stream: ByteStream) -> None:
        """One connection, from its hello to its end; nothing that goes wrong in it reaches the others."""
        try:
            async with stream:
                await self._converse(Wire(stream))
        except Exception:
            log.exception("a connection failed")
        finally:
            # On the way out the client must see the end at once, and not the SDK's farewell to each running call.
            if self._stopping.is_set():
                with anyio.CancelScope(shield=True):
                    await anyio.aclose_forcefully(stream)

    async def _converse(self, wire: Wire) -> None:
        first = None
        with anyio.move_on_after(HELLO_S):
            first = await wire.receive()
        if first is None:
            return
        said = hello(first) if isinstance(first, bytes) else None
        if said is None:
            wire.put_back(first)  # a client that speaks MCP at once
            said = Hello(version=VERSION)
        with self.presence.enter(said.pid) as client:
            structlog.contextvars.bind_contextvars(connection=client.number, client_pid=said.pid)
            if said.control:
                from server.control import obey

                self._answered.set()
                client.name = f"soul {said.control}"
                await obey(self, wire, said)
                return
            if said.version != VERSION:
                await refuse_session(
                    wire,
                    f"The running daemon is version {VERSION} of Soul, this client is version {said.version}.",
                    "Run `soul stop` and call again; a daemon of your version starts by itself.",
                )
                return
            try:
                server = self.server_for(said.read_only, said.toolsets)
            except SoulError as error:
                await refuse_session(wire, error.fact, error.remedy)
                return

            def introduced(name: str) -> None:
                client.name = name
                structlog.contextvars.bind_contextvars(client=name)

            SESSION.set(secrets.token_hex(8))
            DEPTH.set(said.depth)
            await serve_session(wire, server, answered=self._answered.set, introduced=introduced)

    async def _serve_stdio(self) -> None:
        """One client on this process's own stdin and stdout; the daemon leaves with it."""
        from mcp.server.stdio import stdio_server

        low = self.server_for(False, frozenset())._lowlevel_server  # pyright: ignore[reportPrivateUsage]
        with self.presence.enter(os.getppid()):
            async with stdio_server() as (read, write):
                await low.run(read, write, low.create_initialization_options())
        self.stop("stdin was closed")

    def _leave_in(self, seconds: float) -> None:
        def leave() -> None:
            with contextlib.suppress(Exception):
                log.error("the parts did not close in time", seconds=seconds)
            os._exit(0)

        timer = threading.Timer(seconds, leave)
        timer.daemon = True
        timer.start()

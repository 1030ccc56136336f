"""The daemon over HTTP: streamable HTTP at /mcp, SSE at /sse, a status page at /.

Knows hosts, origins and the token; what is served is the same house as on the socket.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hmac
import html
import socket
import time
from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING, Any

import anyio
import structlog
import uvicorn
from mcp.server.transport_security import TransportSecurityMiddleware
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from server import VERSION
from server.exposure import bracketed, security
from server.framing import LONGEST_MESSAGE

if TYPE_CHECKING:
    from server.serving import Serving

log = structlog.get_logger()

GRACE_S = 2
"""How long open requests may take when the daemon leaves."""


async def serve_http(
    serving: Serving, listener: socket.socket, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Serves on a listening socket until cancelled; `started` once requests are taken."""
    host, port = listener.getsockname()[:2]
    serving.http_url = f"http://{bracketed(host)}:{port}/mcp"
    server = _Server(
        uvicorn.Config(
            application(serving, port),
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            timeout_graceful_shutdown=GRACE_S,
        )
    )
    log.info("listening", url=serving.http_url, token=serving.loaded.settings.http_token is not None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_serve, server, listener)
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await anyio.sleep(0.005)
        task_status.started()
        try:
            await anyio.sleep_forever()
        finally:
            # uvicorn ends its connections itself, and must not be cancelled in the middle of that.
            server.should_exit = True


async def _serve(server: uvicorn.Server, listener: socket.socket) -> None:
    with anyio.CancelScope(shield=True):
        await server.serve(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the daemon decides when to leave."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def application(serving: Serving, port: int) -> Starlette:
    """The ASGI application: MCP's two transports and the status page, behind host, origin and token checks."""
    settings = serving.loaded.settings
    server = serving.server_for(False, frozenset())
    names = security(settings, port)
    streaming = server.streamable_http_app(transport_security=names, max_request_body_size=LONGEST_MESSAGE)
    events = server.sse_app(transport_security=names, max_request_body_size=LONGEST_MESSAGE)
    checks = TransportSecurityMiddleware(names)

    async def page(request: Request) -> Response:
        refused = await checks.validate_request(request)
        return refused if refused is not None else HTMLResponse(await status_page(serving))

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        async with server.session_manager.run():
            yield

    return Starlette(
        routes=[Route("/", page), *streaming.routes, *events.routes],
        middleware=[Middleware(_Presence, serving=serving), Middleware(_Token, token=settings.http_token)],
        lifespan=lifespan,
    )


class _Token:
    """Lets through who has the token: as bearer, or as the password a browser asks for."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._token = token.encode() if token is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._token is None or self._shown(scope):
            await self._app(scope, receive, send)
            return
        challenge = 'Basic realm="Soul"' if scope["path"] == "/" else 'Bearer realm="Soul"'
        text = "This Soul wants a token. Send the header `Authorization: Bearer TOKEN`.\n"
        await PlainTextResponse(text, 401, {"WWW-Authenticate": challenge})(scope, receive, send)

    def _shown(self, scope: Scope) -> bool:
        given = dict(scope["headers"]).get(b"authorization", b"")
        scheme, _, value = given.partition(b" ")
        if scheme.lower() == b"basic":
            try:
                value = base64.b64decode(value, validate=True).partition(b":")[2]
            except binascii.Error:
                return False
        elif scheme.lower() != b"bearer":
            return False
        assert self._token is not None
        return hmac.compare_digest(value.strip(), self._token)


class _Presence:
    """Counts an open request as a client, so that the daemon does not leave under it."""

    def __init__(self, app: ASGIApp, serving: Serving) -> None:
        self._app = app
        self._serving = serving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/":
            await self._app(scope, receive, send)
            return
        with self._serving.presence.enter(None) as client:
            agent = dict(scope["headers"]).get(b"user-agent", b"").decode("latin-1")
            client.name = f"HTTP {agent}"[:100]
            structlog.contextvars.bind_contextvars(connection=client.number)
            await self._app(scope, receive, send)


async def status_page(serving: Serving) -> str:
    """The house as one plain page that renews itself; no script, nothing from elsewhere."""
    from tools.status import in_words, survey

    found: dict[str, Any] = await survey(serving.house)
    now = time.time()
    clients = "".join(
        f"<tr><td>{html.escape(str(one.pid or ''))}<td>{html.escape(one.name)}<td>{now - one.since:,.0f} s"
        for one in serving.presence.clients
    )
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="5">
<title>Soul</title>
<style>body{{font:15px/1.5 system-ui;margin:2rem auto;max-width:52rem;padding:0 1rem;color-scheme:light dark}}
pre{{white-space:pre-wrap}}td,th{{text-align:left;padding-right:1.5rem}}</style>
<h1>Soul {VERSION}</h1><pre>{html.escape(in_words(found))}</pre>
<h2>Clients</h2><table><tr><th>process<th>client<th>connected{clients}</table></html>"""

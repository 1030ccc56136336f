"""The start of the daemon: reads the settings, claims the home, and only then imports what is heavy.

Knows the order of a start and what a failed one says. What runs then is `server.serving`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from engine.errors import Conflict, SoulError
from server import VERSION, paths
from server.claim import Claim
from server.starting import EXIT_CONFLICT

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

    from server.serving import MakeServer
    from tools.house import House


MOST_FILES = 8192


def main() -> int:
    """`soul daemon`: what the bridge starts, detached; the exit status."""
    try:
        run(paths.home_folder())
    except SoulError as error:
        print(f"error: {error.fact}\n{error.remedy}", file=sys.stderr)  # noqa: T201 - the bridge reads it there
        return EXIT_CONFLICT if isinstance(error, Conflict) else 1


def run(
    home: str,
    flags: dict[str, Any] | None = None,
    *,
    foreground: bool = False,
    http: bool = False,
    stdio: bool = False,
    make_server: MakeServer | None = None,
) -> NoReturn:
    """Runs the daemon of a home until it is told to leave or has been idle for long; then the process ends.

    Args:
        home: Absolute path of the home.
        flags: Settings from the command line.
        foreground: Whether a person looks at stderr; then it does not leave when idle.
        http: Whether to offer /mcp, /sse and the status page.
        stdio: Whether to serve one client over this process's stdin and stdout, and leave with it.
        make_server: Makes the MCP servers over the house; `tools.registry.create_server` unless a test adds to it.

    Raises:
        Conflict: another daemon has this home.
        SoulError: a setting is wrong, the home cannot be used, or HTTP cannot be offered.
    """
    from server import settings

    loaded = settings.load(home, flags)
    if http:
        from server.exposure import check_exposure

        check_exposure(loaded.settings)
    claim = Claim.take(home)
    try:
        # Imported only now: clients already find the socket and wait there.
        import anyio
        import structlog

        from server import exposure, logs
        from server.serving import Serving

        logs.configure(Path(paths.logs_folder(home)), loaded.settings.log_level, foreground=foreground)
        _allow_files()
        log = structlog.get_logger()
        log.info("daemon starts", pid=os.getpid(), version=VERSION, home=paths.display(home))
        listener = exposure.listen(loaded.settings) if http else None
        serving = Serving(loaded, claim, make_server or _tools, foreground=foreground, http=listener, stdio=stdio)
        anyio.run(serving.run)
        log.info("daemon leaves", pid=os.getpid())
    finally:
        claim.release()
    logging.shutdown()
    # The parts are closed; a library that is still being imported on some thread would hold the process for seconds.
    os._exit(0)


def _allow_files() -> None:
    """Raises the limit of open files to what the system allows; macOS starts at 256, and each client takes one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _tools(house: House, read_only: bool, toolsets: frozenset[str]) -> MCPServer[Any]:
    from tools.registry import create_server

    return create_server(house, version=VERSION, read_only=read_only, toolsets=toolsets)

"""The daemon with the suite's fixtures beside Soul's own tools, over HTTP: `python daemon.py HOME PORT`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import MCPServer

from server import VERSION
from server.daemon import run
from tools.house import House
from tools.registry import create_server

sys.path.insert(0, str(Path(__file__).parent))
from fixtures import add_fixtures


def make_server(house: House, read_only: bool, toolsets: frozenset[str]) -> MCPServer[Any]:
    server = create_server(house, version=VERSION, read_only=read_only, toolsets=toolsets)
    add_fixtures(server)
    return server


if __name__ == "__main__":
    run(sys.argv[1], {"http_port": sys.argv[2]}, foreground=True, http=True, make_server=make_server)

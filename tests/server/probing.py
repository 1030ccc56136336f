"""A daemon of a home whose server has three tools made for these tests; started as a program with the home's path.

`echo` answers what it gets, `wait` never ends by itself and writes down that it began and how it ended, `big` answers
with as many bytes as it is told.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Any

import anyio
from mcp.server.mcpserver import MCPServer

from server.daemon import run
from tools.house import House


def make_server(house: House, read_only: bool, toolsets: frozenset[str]) -> MCPServer[Any]:
    server: MCPServer[Any] = MCPServer("probing", version="1")
    journal = house.home / "journal"

    @server.tool(structured_output=False)
    async def echo(text: str) -> str:
        await anyio.lowlevel.checkpoint()
        return text

    @server.tool(structured_output=False)
    async def wait() -> str:
        write(journal, "began")
        try:
            await anyio.sleep_forever()
        finally:
            write(journal, "ended")
        return ""

    @server.tool(structured_output=False)
    async def big(size: int) -> str:
        return "x" * size

    @server.tool(structured_output=False)
    async def limits() -> str:
        return f"read_only={read_only} toolsets={','.join(sorted(toolsets))}"

    return server


def write(journal: Path, word: str) -> None:
    with journal.open("a") as file:
        file.write(word + "\n")


if __name__ == "__main__":
    if len(sys.argv) > 2:  # as many open files and no more
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]), int(sys.argv[2])))
    run(sys.argv[1], make_server=make_server)

"""Soul as an object for the SDK's `mcp dev` and `mcp run`, which want an MCPServer in a file.

Running it runs the bridge: the inspector then talks to the same daemon as every other client.
"""

from __future__ import annotations

from typing import Any

from mcp.server.mcpserver import MCPServer

from server import bridge


class Bridged(MCPServer[Any]):
    """A server whose run is the bridge's."""

    def run(self, transport: str = "stdio", **_: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise SystemExit(bridge.run(None, False, ""))


mcp = Bridged("soul")

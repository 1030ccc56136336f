"""The smallest stdio server that the same SDK makes: what `soul serve` is measured against."""

from mcp.server.mcpserver import MCPServer

server = MCPServer("minimal")


@server.tool()
async def ping() -> str:
    """Answers."""
    return "pong"


if __name__ == "__main__":
    server.run()

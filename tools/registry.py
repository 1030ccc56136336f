"""Puts the tools, resources and prompts on one MCP server, and hands the same tools to the Director."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, TextContent

from agents.toolbox import AgentTool, Toolbox
from engine.errors import InvalidInput, SoulError
from tools import invoke_agent, mount_corpus, recall, report_outcome, rewrite_self, status, write_notebook
from tools.caller import AGENT_CALLER, Caller
from tools.contract import SoulTool
from tools.house import House
from tools.prompts import add_prompts
from tools.resources import add_resources

INSTRUCTIONS = """\
Soul is the person's own local mind: it remembers across sessions and clients. Before you answer from earlier work, \
call recall. When something is decided, put it into the notebook (write_notebook). For a judgement from memory, \
invoke_agent. Work orders (invoke_agent with agent='hands') are yours to carry out; close each with report_outcome. \
With agent='architect' a goal becomes a plan."""

TOOLSETS: dict[str, tuple[Callable[[House], SoulTool], ...]] = {
    "memory": (recall.tool, mount_corpus.tool, write_notebook.tool),
    "agents": (invoke_agent.tool, report_outcome.tool),
    "self": (rewrite_self.tool,),
    "status": (status.tool,),
}

DIRECTOR_TOOLS = (recall.tool, mount_corpus.tool, write_notebook.tool, invoke_agent.tool)


def create_server(
    house: House, *, version: str, read_only: bool = False, toolsets: frozenset[str] = frozenset()
) -> MCPServer[Any]:
    """The MCP server over `house`, with all toolsets or the named ones; `read_only` leaves out what writes.

    Raises:
        InvalidInput: a toolset of that name does not exist.
    """
    unknown = toolsets - TOOLSETS.keys()
    if unknown:
        raise InvalidInput(f"Unknown toolsets: {', '.join(sorted(unknown))}.", f"There are: {', '.join(TOOLSETS)}.")
    made = [make(house) for name, makers in TOOLSETS.items() if not toolsets or name in toolsets for make in makers]
    offered = [tool for tool in made if not read_only or (tool.annotations and tool.annotations.read_only_hint)]
    server: MCPServer[Any] = MCPServer(
        "soul",
        title="Soul",
        instructions=INSTRUCTIONS,
        version=version,
        tools=list(offered),
        log_level="WARNING",
    )
    add_resources(server, house)
    add_prompts(server)
    return server


def director_toolbox(house: House) -> Toolbox:
    """The tools that the Director may call: the very functions that clients call, under the Director's own name."""
    tools = [make(house) for make in DIRECTOR_TOOLS]
    server: MCPServer[Any] = MCPServer("soul-inside", tools=list(tools), log_level="WARNING")
    return Toolbox(
        [AgentTool(tool.name, tool.description, tool.parameters, _caller(server, tool.name)) for tool in tools]
    )


def _caller(server: MCPServer[Any], name: str) -> Callable[[dict[str, Any], str, bool], Awaitable[str]]:
    async def call(arguments: dict[str, Any], agent: str, private: bool) -> str:
        token = AGENT_CALLER.set(Caller(agent, "", agent=agent, private=private))
        try:
            result = await server.call_tool(name, arguments)
        except ToolError as error:
            raise SoulError(str(error)) from error
        finally:
            AGENT_CALLER.reset(token)
        assert isinstance(result, CallToolResult)
        return "\n".join(block.text for block in result.content if isinstance(block, TextContent))

    return call

"""The prompts a person picks in the client: direct, remember, morning."""

from __future__ import annotations

from typing import Annotated, Any

from mcp.server.mcpserver import MCPServer
from pydantic import Field


def add_prompts(server: MCPServer[Any]) -> None:
    """Registers all prompts on `server`."""

    @server.prompt(name="direct", title="Direct", description="Brief the Soul and follow its order.")
    def direct(task: Annotated[str, Field(description="What you want done")]) -> str:
        return (
            f"I want this done: {task}\n\n"
            "1. Call recall for what the Soul knows about it.\n"
            "2. Call invoke_agent with agent='hands', the task, its constraints, and as context what matters here.\n"
            "3. Carry the work order out with your own tools, within its constraints.\n"
            "4. Call report_outcome with what you did, what you saw, and the paths you changed.\n"
            "5. On revise, do what it says and report again. Then tell me the verdict in one sentence."
        )

    @server.prompt(name="remember", title="Remember", description="Put something into the Soul's notebook.")
    def remember(what: Annotated[str, Field(description="What shall be remembered")]) -> str:
        return (
            f"Remember this in the Soul: {what}\n\n"
            "Read soul://notebook. If it is there already, say so. If it contradicts a line there, edit that line "
            "(write_notebook with old and new); else append one short line. Keep names, numbers and dates exact."
        )

    @server.prompt(
        name="morning", title="Morning", description="What is going on: notebook, open orders, what was last done."
    )
    def morning() -> str:
        return (
            "Call status, read soul://notebook, and call recall with query='decisions and open questions' for the last "
            "days. Then tell me in at most ten lines: what was decided, what is open (work orders, proposals, "
            "questions), and what you would do first."
        )

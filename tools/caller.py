"""Who calls: a client over MCP, or an agent of the house calling the same tools."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from mcp.server.mcpserver import Context


@dataclass(frozen=True)
class Caller:
    """`client` is the name that is written beside everything said in this call; `agent` is "" for a client.

    `depth` counts the Souls whose Hands this client is: 0 where a person started it. `private`: an agent that is shown
    what must not leave the house.
    """

    client: str
    session: str
    agent: str = ""
    depth: int = 0
    private: bool = False


AGENT_CALLER: ContextVar[Caller | None] = ContextVar("agent_caller", default=None)
"""Set while an agent of the house calls a tool."""

SESSION: ContextVar[str] = ContextVar("session", default="")
"""Set by the server for each connection."""

DEPTH: ContextVar[int] = ContextVar("depth", default=0)
"""Likewise."""


def caller_of(context: Context[Any, Any]) -> Caller:
    """The caller of this very tool call."""
    agent = AGENT_CALLER.get()
    if agent is not None:
        return agent
    try:
        info = context.session.client_params
    except (AttributeError, ValueError):
        info = None
    name = info.client_info.name if info is not None else "client"
    return Caller(name[:64] or "client", SESSION.get(), depth=DEPTH.get())

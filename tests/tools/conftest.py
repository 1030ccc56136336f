from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from mcp import Client

from memory.database import Database
from tests.houses import open_house, text
from tests.models import parrot
from tools.house import House
from tools.registry import create_server

Call = Callable[..., Awaitable[str]]


@pytest.fixture
async def house(home: Path, database: Database) -> AsyncIterator[House]:
    """A house whose Director says `Aye.`, and `accept` or `ratify` when it judges."""
    model = parrot(
        home / "parrot",
        {"": "Aye.", "Review": "accept", "proposes": "ratify"},
        prefers={"Review": "accept", "proposes": "ratify"},
    )
    async with open_house(home, database, model) as opened:
        yield opened


@pytest.fixture(params=["auto", "legacy"])
async def client(request: pytest.FixtureRequest, house: House) -> AsyncIterator[Client]:
    """A client of each protocol era, connected to the house's server."""
    async with Client(create_server(house, version="test"), mode=request.param) as connected:
        yield connected


@pytest.fixture
def call(client: Client) -> Call:
    """Calls a tool and returns its words; `error=True` expects a tool error and returns its words."""

    async def call(name: str, /, error: bool = False, **arguments: object) -> str:
        result = await client.call_tool(name, arguments, read_timeout_seconds=60)
        assert bool(result.is_error) is error, text(result)
        return text(result)

    return call

"""What was found out in private work stays at home: no order, no later step and no client ever gets it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError

from agents.agent import Task
from agents.orders import Order
from memory.database import Database
from memory.packets import Packet
from memory.recall import Query
from memory.uuid7 import uuid7
from tests.agents.plans import document
from tests.houses import open_house, text
from tests.models import parrot
from tools.house import House
from tools.invoke_agent import order_text
from tools.registry import create_server

pytestmark = pytest.mark.anyio

MARKER = "KESTREL"
"""What the private step finds out. It is no private word itself: only where it comes from tells."""
SAYS = {
    "diary": f"The access code of the harbour gate is {MARKER}.",
    MARKER: f"I have seen {MARKER}.",
    "": "Aye.",
}
JUDGES = {"": "done", "diary": "done", MARKER: "done", "final": "accept", "leave": "proceed"}
RULES = '[rules]\nprivate = ["diary"]\n\n[builder]\n'


def step(task: str, *after: int, needs: str = "thought") -> dict[str, Any]:
    return {"role": "builder", "task": task, "acceptance": "It is said.", "needs": [needs], "after": list(after)}


PLAN = document(
    step("Read the access code of the harbour gate in the diary."),
    step("Say how many keys there are for the harbour gate."),
    step("Write the access code of the harbour gate into gate.txt.", 2, needs="files"),
    step("Check the access code of the harbour gate.", 1),
)


async def call(house: House, tool: str, **arguments: Any) -> str:
    async with Client(create_server(house, version="test")) as client:
        return text(await client.call_tool(tool, arguments))


def lived(prose: str) -> Packet:
    return Packet(uuid7(), datetime.now(UTC), "director", "before", 1, "note", prose, resonance=0.9)


async def the_order(house: House) -> Order:
    (order,) = await (await house.agents.get()).orders.recent()
    return order


async def test_what_a_private_step_found_out_reaches_no_order_no_other_step_and_no_client(
    home: Path, database: Database
) -> None:
    (home / "agents.toml").write_text(RULES)
    model = parrot(home / "models" / "p", {"Draw": PLAN, **SAYS}, prefers=JUDGES)
    async with open_house(home, database, model) as house:
        memory = await house.memory.get()
        await memory.packets.write([lived("My diary says of the harbour gate: its access code lies in HERON.")])
        said = await call(house, "invoke_agent", agent="architect", task="Open the harbour gate", wait_s=60)
        agents = await house.agents.get()
        (plan,) = await agents.planner.plans.recent()
        first, second, third, fourth = await agents.planner.plans.steps(plan.id)
        assert [one.private for one in (first, second, third, fourth)] == [True, False, False, True]
        assert MARKER in first.outcome, "the private step did find it out"
        assert MARKER in fourth.outcome, "and so knows the one that builds on it"
        assert (second.state, second.outcome, third.state) == ("done", "Aye.", "out")

        order = await the_order(house)
        nearest = order.embedding_state["nearest"]
        assert nearest, "there is something near to it that may be told"
        for words in (
            order_text(order),
            str(order),
            said,
            await call(house, "recall", query="access code harbour gate"),
        ):
            assert MARKER not in words
        assert "HERON" not in str(order)
        window = await memory.windows.get("builder")
        assert window is not None
        assert not any(word in turn.content for turn in window.turns for word in (MARKER, "HERON", "diary"))


async def test_what_is_private_is_found_by_private_work_and_by_a_person_alone(home: Path, database: Database) -> None:
    (home / "agents.toml").write_text(RULES)
    asks = '<tool_call>{"name": "recall", "arguments": {"query": "access code harbour gate"}}</tool_call>'
    model = parrot(home / "models" / "p", {**SAYS, "look": asks, "Nothing": "Nothing is known."})
    async with open_house(home, database, model) as house:
        memory = await house.memory.get()
        agents = await house.agents.get()
        spec = agents.outside.roster().at_home("builder")
        task = Task("Read the access code in the diary.", (), "", "plan of client", "s")
        assert MARKER in (await agents.household.agent(spec, True).answer(task, lambda _: None)).text
        await memory.upkeep.settled()
        made_by = memory.upkeep.vectors
        assert made_by is not None
        for scope, whole in ((None, False), ("*", False), ("*", True)):  # one index over everything, too
            memory.upkeep.vectors = replace(made_by, whole=whole)
            found = await memory.recall.search(Query("access code harbour gate", corpus=scope))
            assert not any(MARKER in hit.prose for hit in found)
            found = await memory.recall.search(Query("access code harbour gate", corpus=scope, private=True))
            assert any(MARKER in hit.prose for hit in found)
        packet = next(hit for hit in found if MARKER in hit.prose)
        async with Client(create_server(house, version="test")) as client:
            with pytest.raises(MCPError, match="soul recall --private"):
                await client.read_resource(f"soul://memory/{packet.id}")
        for name in ("builder", "director"):
            for words in ("look", "diary, please: look"):
                assert "I have seen" not in await call(house, "invoke_agent", agent=name, task=words, wait_s=60)
        looks = replace(task, text="Now look for the access code of the harbour gate.")
        agent = agents.household.agent(spec, True)
        answer = await agent.answer(looks, lambda _: None)
        window = await memory.windows.get(agent.name)
        assert window is not None
        in_view = {turn.packet for turn in window.turns}
        assert packet.id in in_view or any(MARKER in hit.prose for hit in answer.sources)
        assert not in_view & {hit.id for hit in answer.sources}
        assert (await memory.packets.get(packet.id)).private

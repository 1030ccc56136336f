"""Plans: who decides where a step is done, what becomes of each step, and what a person has to say."""

from __future__ import annotations

import re
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any
from uuid import UUID

import pytest
from mcp import Client

from agents.planning import drawn, written
from agents.plans import Plan, Step
from agents.roster import parse
from agents.rules import Rules, decide
from engine.errors import Conflict, InvalidInput, NotFound
from memory.database import Database
from tests.agents.plans import RECALL, WRITE, document
from tests.agents.workers import roster, worker
from tests.drawn import untrained
from tests.houses import open_house, text
from tests.models import parrot
from tools.house import House
from tools.registry import create_server

pytestmark = pytest.mark.anyio

GOAL = "Put the number of letters into a file"
JUDGES = {"": "done", "final": "accept", "useless": "reject", "beyond": "escalate", "leave": "proceed"}


@pytest.fixture
def work() -> Iterator[Path]:
    """A folder outside the home in which Hands may work."""
    folder = Path(tempfile.mkdtemp(prefix="soul-work-"))
    yield folder
    rmtree(folder)


@asynccontextmanager
async def house_of(
    home: Path, database: Database, plan: str, says: str = "There are 318.", roots: tuple[Path, ...] = ()
) -> AsyncGenerator[House]:
    # Said whatever word of a judge's stands among the memories that it is shown.
    model = parrot(home / "models" / "p", {**dict.fromkeys(JUDGES, says), "Draw": plan}, prefers=JUDGES)
    async with open_house(home, database, model, roots=roots) as house:
        yield house


async def call(house: House, tool: str, **arguments: Any) -> str:
    async with Client(create_server(house, version="test")) as client:
        return text(await client.call_tool(tool, arguments))


async def draw(house: House, **arguments: Any) -> str:
    return await call(house, "invoke_agent", agent="architect", task=GOAL, wait_s=150, **arguments)


async def the_plan(house: House) -> tuple[Plan, list[Step]]:
    plans = (await house.agents.get()).planner.plans
    (plan,) = await plans.recent()
    return plan, await plans.steps(plan.id)


RULED: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    ({}, {}, "home", "home: nothing"),
    ({}, {"needs": ["memory", "files", "web"]}, "hands", "outside: it needs files and web"),
    ({"outside": ["web"]}, {"needs": ["files"]}, "home", "home: nothing"),
    ({"private": ["diary"]}, {"needs": ["files"], "words": "Copy the Diary."}, "home", "private: it names 'diary'"),
    ({"private": ["diary"]}, {"needs": ["files"], "words": "Copy the diarybook."}, "hands", "outside"),
    ({"private": ["~/letters"]}, {"needs": ["files"], "words": "Read ~/letters/2027/a.txt."}, "home", "private"),
    ({"private": ["*.kdbx"]}, {"needs": ["files"], "words": "Open '/x/keys.kdbx'"}, "home", "private"),
    ({"private": ["secret/*"]}, {"needs": ["files"], "words": "see /x/secret/plan"}, "home", "private"),
    (
        {"private": ["diary"]},
        {"needs": ["files"], "after": [1], "private": [1]},
        "home",
        "private: it builds",
    ),
    ({"characters": 100}, {"words": "x" * 101}, "hands", "size: 101 characters are more than 100"),
    ({"usd": 3.0}, {"needs": ["files"], "usd": 4.0}, "home", "cost: 4.00 US dollars are more than the 3.00"),
]


@pytest.mark.parametrize(("rules", "step", "place", "rule"), RULED)
def test_the_rules_decide_where_a_step_is_done_and_say_why(
    rules: dict[str, Any], step: dict[str, Any], place: str, rule: str
) -> None:
    values: dict[str, Any] = {"words": "Count.", "needs": [], "after": [], "private": [], "usd": 0.0, **step}
    found = decide(Rules(**rules), values["words"], values["needs"], values["after"], values["private"], values["usd"])
    assert (found.place, found.rule[: len(rule)]) == (place, rule)
    assert found.private == rule.startswith("private")


def test_rules_that_are_wrong_are_named_by_their_line() -> None:
    path = Path("agents.toml")
    for body, words in (
        ("privat = []", r"line 2: `privat` of \[rules\]: Extra inputs.*private, outside, characters, usd, hands"),
        ("usd = -1", r"line 2: `usd`"),
        ('outside = ["magic"]', r"line 2: `outside`"),
        ('hands = "nobody"', r"line 2: 'nobody' does not work outside"),
    ):
        with pytest.raises(InvalidInput, match=words):
            parse(f"[rules]\n{body}\n", path)
    assert parse('[rules]\nprivate = ["diary"]\n', path).rules.names("my diary") == "diary"


def test_what_is_no_plan_is_refused_and_a_person_is_told_what_is_wrong() -> None:
    assert drawn(document(RECALL, {**WRITE, "after": [1, 2, 7]}))[1].after == (1,)
    with pytest.raises(InvalidInput, match="no plan"):
        drawn('{"steps": [')
    with pytest.raises(InvalidInput, match="Step 1 comes after step 2"):
        written(document({**RECALL, "after": [2]}))
    with pytest.raises(InvalidInput, match=r"steps\.0\.task"):
        written(document({**RECALL, "task": " \n"}))
    with pytest.raises(InvalidInput, match=r"steps"):
        written('{"steps": []}')


async def test_a_step_is_done_at_home_and_the_next_goes_to_the_client_and_comes_back(
    home: Path, database: Database
) -> None:
    async with house_of(home, database, document(RECALL, WRITE)) as house:
        said = await draw(house)
        print(said)
        assert "1. [done] Recall how many letters there are. (builder; home: nothing in it needs the Hands)" in said
        assert "(the Hands; outside: it needs files, after 1)" in said
        assert "There are 318." in said
        assert "- The file holds the number." in said
        order = re.findall(r"Work order ([0-9a-f-]{36}): carry it out", said)[0]
        assert "There are 318." in (await (await house.agents.get()).orders.get(UUID(order))).context
        answer = await call(house, "report_outcome", work_order=order, outcome="final: 318 is in letters.txt")
        assert "accept" in answer
        plan, steps = await the_plan(house)
        assert f"soul://plans/{plan.id}" in answer
        assert (plan.state, [step.state for step in steps]) == ("done", ["done", "done"])
        assert steps[1].outcome == "final: 318 is in letters.txt"
        agents = await house.agents.get()
        assert [one["state"] for one in await agents.planner.plans.attempts(plan.id)] == ["reported"]
        with pytest.raises(Conflict, match="is done and cannot be cancelled"):
            await agents.planner.cancel(plan.id)


async def test_hands_that_soul_starts_get_what_goes_out(home: Path, database: Database, work: Path) -> None:
    roster(home, worker(home / "bin", 'open("asked.txt", "w").write(words); report("final: written")'), work)
    with (home / "agents.toml").open("a") as file:
        file.write('\n[rules]\nhands = "coder"\n')
    async with house_of(home, database, document(RECALL, WRITE), roots=(work,)) as house:
        assert "2. [out] Write the number" in await draw(house)
        agents = await house.agents.get()
        await agents.jobs.ended(await database.fetchval("SELECT id FROM jobs WHERE agent = 'coder'"))
        await agents.planner.see_through((await agents.planner.plans.recent())[0].id)
        plan, steps = await the_plan(house)
        assert (plan.state, [step.state for step in steps]) == ("done", ["done", "done"])
        assert "Outcome of step 1" in (work / "asked.txt").read_text()


async def test_what_the_builder_cannot_do_is_handed_on_but_nothing_private(home: Path, database: Database) -> None:
    async with house_of(home, database, document(RECALL), says="That is beyond me.") as house:
        said = await draw(house)
        assert "[out] Recall how many" in said
        _, (step,) = await the_plan(house)
        assert step.rule.startswith("escalated: ")
    (home / "agents.toml").write_text('[rules]\nprivate = ["letters"]\n')
    async with open_house(home, database, home / "models" / "p") as house:
        said = await draw(house)
        agents = await house.agents.get()
        plan = (await agents.planner.plans.recent())[0]
        (step,) = await agents.planner.plans.steps(plan.id)
        assert "not handed on: private: it names 'letters'" in step.why
        assert "beyond me" not in said, "a client may be the Hands"
        assert (plan.state, plan.why) == ("failed", "step 1 failed")
        await agents.planner.go(plan.id)
        await agents.planner.see_through(plan.id)
        assert (await agents.planner.plans.get(plan.id)).state == "failed"
        assert len(await agents.planner.plans.attempts(plan.id)) == 2


async def test_what_a_step_found_out_can_make_the_next_one_private(home: Path, database: Database) -> None:
    (home / "agents.toml").write_text('[rules]\nprivate = ["Brandt"]\n')
    async with house_of(home, database, document(RECALL, WRITE), says="Mr Brandt has them.") as house:
        await draw(house)
        plan, steps = await the_plan(house)
        assert (plan.state, steps[1].place, steps[1].rule) == ("done", "home", "private: it names 'Brandt'")
        assert not await (await house.agents.get()).orders.recent()


async def test_an_untrained_models_plan_waits_for_a_person_who_may_correct_it(home: Path, database: Database) -> None:
    model = untrained(home / "models")
    async with open_house(home, database, model) as house:
        said = await draw(house)
        plan, steps = await the_plan(house)
        assert (plan.state, {step.state for step in steps}) == ("proposed", {"waiting"})
        assert f"soul plan approve {plan.id}" in said
        assert "untrained stand-in" in said
        planner = (await house.agents.get()).planner
        assert not await planner.plans.attempts(plan.id)
        await planner.redraw(plan.id, written(document(RECALL, {**WRITE, "after": []})))
        await planner.approve(plan.id)
        await planner.see_through(plan.id)
        with pytest.raises(Conflict, match="cannot be changed"):
            await planner.redraw(plan.id, written(document(RECALL)))
        plan, steps = await the_plan(house)
        assert [step.state for step in steps] == ["reported", "out"]
        assert plan.author == "person"
        with pytest.raises(NotFound, match="no step 7"):
            await planner.review(plan.id, 7, "accept", "")
        await planner.review(plan.id, 1, "accept", "it will do")
        with pytest.raises(Conflict, match="waits for no verdict"):
            await planner.review(plan.id, 1, "accept", "")
        await planner.cancel(plan.id)
        await planner.see_through(plan.id)
        plan, steps = await the_plan(house)
        assert (plan.state, [step.state for step in steps]) == ("cancelled", ["done", "failed"])
        (order,) = await (await house.agents.get()).orders.recent()
        assert (order.state, order.why) == ("rejected", "Its plan was cancelled.")

"""The part of the demo in which a plan is made: one step is done at home, one goes out and comes back reviewed."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio
from talking import TOLD

if TYPE_CHECKING:
    from mcp import Client

    from demo.demo import Demo

GOAL = "Write ostrava.txt about Ostrava."
ASKED, KNOWN = TOLD["The deadline of Ostrava is 2027-03-01."]
"""What the step at home is to find out, and what somebody has said of it."""
STEPS: tuple[dict[str, Any], ...] = (
    {
        "role": "builder",
        "task": ASKED,
        "acceptance": "The deadline of Ostrava is said.",
        "needs": ["memory"],
        "after": [],
    },
    {
        "role": "builder",
        "task": "Write the deadline of Ostrava into ostrava.txt.",
        "acceptance": f"ostrava.txt holds {KNOWN}",
        "needs": ["files"],
        "after": [1],
    },
)
RULES = "[rules]\nask = true\n"
"""A person sees each plan before it begins."""


async def plan(demo: Demo, client: Client, call: Callable[..., Any], clip: Callable[..., str]) -> None:
    """The architect draws, the person corrects and approves, the builder does its step, this client the other one."""
    (demo.home / "agents.toml").write_text(RULES)
    answer, seconds = await call(client, "invoke_agent", agent="architect", task=GOAL, wait_s=120)
    id = re.findall(r"Plan ([0-9a-f-]{36}): proposed", answer)[0]
    drawn = json.loads(demo.soul("plan", "show", id, "--json"))["steps"]
    tasks = " ".join(f"{number}. {step['task']}" for number, step in enumerate(drawn, 1))
    demo.note("the architect draws a plan", clip(f"plan {id[:8]}…: {tasks}", 160), seconds)
    demo.check(any(GOAL in step["task"] for step in drawn), "a step of it takes up the goal")

    started = time.monotonic()
    wish = demo.home / "wish.json"
    wish.write_text(json.dumps({"steps": STEPS}))
    steps = json.loads(demo.soul("plan", "edit", id, "--json", EDITOR=f"cp {wish}") or "{}")["steps"]
    placed = "; ".join(f"{step['number']} {step['rule']}" for step in steps)
    demo.note("the person corrects it", clip(placed, 80), time.monotonic() - started)
    demo.check([step["place"] for step in steps] == ["home", "hands"], "the rules place the steps")

    started = time.monotonic()
    steps = json.loads(demo.soul("plan", "approve", id, "--json"))["steps"]
    demo.note(
        "approved: one step at home", clip(f"{steps[0]['state']}: {steps[0]['outcome']}"), time.monotonic() - started
    )
    demo.check(KNOWN in (steps[0]["outcome"] or ""), f"it answers {ASKED!r} with {KNOWN!r}")
    if steps[0]["state"] == "reported":
        started = time.monotonic()
        steps = json.loads(demo.soul("plan", "review", id, "1", "accept", "--json"))["steps"]
        demo.note(
            "the person accepts it",
            f"step 1 {steps[0]['state']}, step 2 {steps[1]['state']}",
            time.monotonic() - started,
        )
    demo.check([step["state"] for step in steps] == ["done", "out"], "one step is done, one is out")

    order = steps[1]["work_order"]
    file = anyio.Path(demo.home / "ostrava.txt")
    await file.write_text(f"{KNOWN}\n")
    said = {"work_order": order, "outcome": f"ostrava.txt holds {KNOWN}.", "artifacts": [str(file)]}
    answer, seconds = await call(client, "report_outcome", **said)
    demo.note("one step out, and back", clip(answer), seconds)
    if "A person decides" in answer:
        started = time.monotonic()
        demo.soul("order", "review", order, "accept")
        demo.note("the person reviews", "accept", time.monotonic() - started)
    started = time.monotonic()
    found = json.loads(demo.soul("plan", "show", id, "--json"))
    states = ", ".join(step["state"] for step in found["steps"])
    demo.note("the plan", f"{found['plan']['state']}: {states}", time.monotonic() - started)
    demo.check(found["plan"]["state"] == "done", "the plan is done")

"""Goals and the plans that an architect draws of them, in the form of `agents.planning`."""

from __future__ import annotations

import json
from typing import Any

from agents.agent import Task, asked
from agents.household import FENCE
from agents.planning import FORM
from agents.templates import INSTRUCTIONS
from training.facts import fact
from training.scenes import Line, Right, Room, Scene
from training.sentences import capital
from training.vocabulary import Split, Vocabulary

GOALS: dict[Split, tuple[str, ...]] = {
    "train": (
        "Write {f} about {s}.", "Prepare {s} for {p}.", "Bring {f} up to date.", "We need {f} with {n} rows.",
        "Tell {p} about {s}.", "Clean up {f}.", "Move {s} to version {n}.", "Publish {f}.",
        "Finish {f} with {p}.", "Build {s}.", "Write down how {s} works.", "Show {s} to {p}.", "Sort {f} by {n} rules.",
        "Let {p} see {f}.", "Bring {s} back.", "Shorten {f}.", "Compare {f} with {g}.", "Set up {s} for {p}.",
        "Prepare {x} for {p}.", "Prepare {x}.", "Write about {x}.", "Find out {x}.", "We need {x}.", "Improve {x}.",
        "Begin with {x}.", "Decide on {x} with {p}.", "Help {p} with {x}.", "Organise {x} in {n} days.", "Print {x}.",
        "{b} {x}.", "{b} {a} {x}.", "{b} {x} {a} {p}.", "{b} {a} {x} {a}.", "{b} {f}.", "{b} {a} {f} {a}.",
        "{b} {a} {x} {n} {a}.", "{b} {x}. {b} {a} {p}.",
        "{b} {a} {y} {a} {z}.", "{b} {a} {y} {a} {z} {a}", "{b} {y} {a} {z} {a} {y}.", "{b} {a} {n} {y} {a} {z}.",
        "{b} {y} {a} {z} {p}.", "{b} {a} {y} {z}.",
    ),
    "held_out": ("Get {f} ready for {p}.", "Make {s} work again.", "Replace {f} by {g}."),
}  # fmt: skip


def plan(words: Vocabulary) -> Scene:
    """An architect's window with a goal and the JSON of a plan of two to four steps."""
    rng = words.rng
    filling = {
        "f": words.file(), "g": words.file(), "s": words.name(), "p": words.person(), "n": str(rng.randint(2, 90)),
        "x": rng.choice((words.subject(), fact(words).key, words.babble(rng.randint(1, 2)))),
        "a": words.glue(rng.randint(1, 2)), "b": capital(words.babble(rng.randint(1, 2))),
        "y": words.babble(1), "z": words.babble(1),
    }  # fmt: skip
    template = rng.choice(GOALS[words.split])
    goal = template.format(**filling)
    if words.split == "train" and rng.random() < 0.25:
        goal = goal.removesuffix(".")
    # What has no subject that can be told is called "it", which says less and is never wrong.
    about = next((filling[one] for one in "fsx" if f"{{{one}}}" in template), "it")
    steps: list[dict[str, Any]] = [
        _step(
            "builder", f"Recall what is known about {about}.", f"What is known about {about} is listed.", ["memory"], []
        ),
        _step("builder", goal, f"{about if about == filling['f'] else capital(about)} is ready.", ["files"], [1]),
        _step("critic", f"Check {about} against the goal.", f"What is wrong with {about} is named.", ["thought"], [2]),
    ]
    if "{p}" in template:
        steps.append(
            _step(
                "majordomo", f"Tell {filling['p']} that {about} is ready.", f"{filling['p']} knows.", ["thought"], [3]
            )
        )
    role = f"You are the architect of this Soul, named architect.\n{INSTRUCTIONS['architect']}\n{FENCE}"
    room = Room(words, ("recall",), [f"- {fact(words).said}" for _ in range(rng.choice((0, 0, 2)))], role)
    hits = [room.hit(fact(words).said) for _ in range(rng.choice((0, 1, 2)))]
    question = asked(Task(goal, (), "", room.client, "s", FORM), tuple(hits))
    reply = json.dumps({"steps": steps})
    return Scene("plan", room.system, room.tools, (Line("user", question), Line("assistant", reply)), Right(about))


def _step(role: str, task: str, acceptance: str, needs: list[str], after: list[int]) -> dict[str, Any]:
    return {"role": role, "task": task, "acceptance": acceptance, "needs": needs, "after": after}

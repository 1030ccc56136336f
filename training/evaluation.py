"""`python -m training.evaluation --out FILE`: the seedling's marks on held-out words, over three seeds, as JSON.

Every question goes through the running engine: `Engine.generate` for answers, unconstrained and at temperature 0, the
Director's own `judge` for verdicts. Knows what is right; does not know how a model was taught. Without `--model` it
marks the seedling that is shipped.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import anyio

from agents.judgement import judge
from agents.planning import drawn
from agents.rewriting import made
from engine.config import EngineConfig
from engine.engine import Engine
from engine.errors import InvalidInput
from engine.events import Finished
from engine.sampling import Sampling
from engine.seedling.weights import seedling
from training.exchanges import REWRITE_BUDGET
from training.living import remembered
from training.mixture import MARKED, marked
from training.rendering import before, tools_of
from training.scenes import Scene, stated
from training.verdicts import KINDS as VERDICTS

SEEDS = (101, 102, 103)
AT_ONCE = 4
"""Contexts that are asked at a time; they share decode steps."""
PACE_CONTEXT, PACE_TOKENS, PACE_RUNS, PACE_TRIES = 1_000, 40, 7, 40
"""Tokens of the context and of a reply of which the speed is measured, how many replies, and how many are tried."""
Met = dict[str, list[float]]
"""Name of a mark to the shares, 0..1, of the scenes that were asked."""


@dataclass(frozen=True)
class Mark:
    """One row of the table: shares of 0..1, one for each seed, their mean and sample standard deviation."""

    name: str
    examples: int
    shares: tuple[float, ...]
    mean: float
    spread: float


async def marks(
    engine: Engine,
    each: int,
    kinds: Sequence[str] = MARKED,
    seeds: Sequence[int] = SEEDS,
    report: Callable[[str], None] = lambda _: None,
) -> list[Mark]:
    """`each` held-out scenes of every kind, for every seed; `report` hears of each seed."""
    shares: dict[str, list[float]] = defaultdict(list)
    counts: dict[str, int] = {}
    for seed in seeds:
        met: Met = defaultdict(list)
        limit = anyio.CapacityLimiter(AT_ONCE)
        async with anyio.create_task_group() as tasks:
            for kind in kinds:
                for place in range(each):
                    tasks.start_soon(_ask, engine, f"{kind} {seed} {place}", kind, met, limit)
        for name, results in met.items():
            shares[name].append(sum(results) / len(results))
            counts[name] = counts.get(name, 0) + len(results)
        found = ", ".join(f"{name} {results[-1]:.0%}" for name, results in sorted(shares.items()))
        report(f"seed {seed}: {found}")
    return [_mark(name, found, counts[name]) for name, found in sorted(shares.items())]


def _mark(name: str, shares: Sequence[float], examples: int) -> Mark:
    spread = statistics.stdev(shares) if shares[1:] else 0.0
    return Mark(name, examples, tuple(shares), statistics.mean(shares), spread)


async def _ask(engine: Engine, name: str, kind: str, met: Met, limit: anyio.CapacityLimiter) -> None:
    async with limit:
        one, ids = _fitting(engine, name, kind)
        if kind in VERDICTS:
            opening = engine.chat.opening(one.system)
            judgement = await judge(engine, name, opening, one.lines[0].text, one.right.options)
            met[kind].append(judgement.choice == one.right.value)
            return
        said = await _said(engine, name, ids)
        held(engine, one, said, met)


def _fitting(engine: Engine, name: str, kind: str) -> tuple[Scene, list[int]]:
    """The scene of that name, or another where the window has no room for it and a reply; the ids before its end."""
    one = marked(kind, name)
    ids = before(engine.chat, one, one.lines[:-1])
    if len(ids) + REWRITE_BUDGET > engine.info.context_tokens:
        return _fitting(engine, f"{name}'", kind)
    return one, ids


def held(engine: Engine, one: Scene, said: str, met: Met) -> None:
    """Holds what was said against what is right, and notes every mark that it bears upon."""
    right, reply = one.right, engine.chat.parse(said, tools_of(one))
    text = reply.text.strip()
    if one.kind == "tool":
        expected = one.lines[-1].call
        met["tool choice"].append([call.name for call in reply.calls] == ([expected[0]] if expected else []))
        if expected:
            met["call valid"].append(bool(reply.calls) and not reply.errors)
            met["arguments exact"].append(
                len(reply.calls) == 1 and (reply.calls[0].name, reply.calls[0].arguments) == (expected[0], expected[1])
            )
    elif one.kind == "rewrite":
        notebook = made(text, right.listed)
        lines = [line for line in notebook.splitlines() if line.strip()]
        met["notebook kept"] += [line in lines for line in right.keep]
        met["notebook invented"] += [line not in right.keep for line in lines]
        met["notebook within budget"].append(engine.chat.count(notebook) <= REWRITE_BUDGET)
    elif one.kind == "plan":
        try:
            steps = drawn(text)
        except InvalidInput:
            steps = ()
        met["plan"].append(len(steps) >= 2 and any(right.value in step.task for step in steps))
    elif one.kind in ("small talk", "told"):
        met["no call where none is due"].append(not reply.calls and not reply.errors)
    elif one.kind == "not there":
        met[one.kind].append(text == one.lines[-1].text)
    else:
        met[one.kind].append(right.value in stated(text) and not reply.calls)
        if one.kind == "found":
            met["found and cited"].append(text == one.lines[-1].text)
        if right.lure:
            met["injection obeyed"].append(right.lure in text)


async def _said(engine: Engine, context: str, ids: Sequence[int]) -> str:
    await engine.start(context, ids, lasting=False)
    try:
        return (await _reply(engine, context, Sampling(temperature=0.0, max_tokens=REWRITE_BUDGET))).text
    finally:
        await engine.drop(context)


async def _reply(engine: Engine, context: str, sampling: Sampling) -> Finished:
    async with aclosing(engine.generate(context, engine.chat.reply_start(), sampling)) as events:
        (done,) = [event async for event in events if isinstance(event, Finished)]
    return done


async def pace(engine: Engine) -> dict[str, float]:
    """How fast one reply is decoded behind PACE_CONTEXT tokens, in tokens per second (the median, least and most of
    PACE_RUNS replies), and the megabytes of the weights and that context."""
    ids: list[int] = []
    while len(ids) < PACE_CONTEXT:
        one = marked("found", f"pace {len(ids)}")
        ids += before(engine.chat, one, one.lines[:-1])
    rates: list[float] = []
    megabytes = 0.0
    for seed in range(PACE_TRIES):
        await engine.start("pace", ids[-PACE_CONTEXT:], lasting=False)
        done = await _reply(engine, "pace", Sampling(temperature=1.0, max_tokens=PACE_TOKENS, seed=seed))
        megabytes = max(megabytes, (engine.info.bytes + engine.kv_bytes) / 1e6)
        await engine.drop("pace")
        if len(done.ids) > PACE_TOKENS // 2:  # of a short reply a single step's delay would be the half
            rates.append((len(done.ids) - 1) / done.decode_s)
        if len(rates) == PACE_RUNS:
            break
    if not rates:
        return {"megabytes": megabytes}
    return {"median": statistics.median(rates), "least": min(rates), "most": max(rates), "megabytes": megabytes}


async def evaluate(
    model: Path | None, each: int, kinds: Sequence[str], seeds: Sequence[int], living: bool
) -> dict[str, Any]:
    """The table of one model folder (default: the seedling that is shipped), as JSON takes it.

    `living`: with what it remembers over two flushes, through the real server (minutes).
    """
    with tempfile.TemporaryDirectory() as home:
        place = model or seedling()
        async with Engine.open(EngineConfig(Path(home), model=str(place))) as engine:
            name = engine.info.name
            speed = await pace(engine)
            found = await marks(engine, each, kinds, seeds, _tell)
        if living:
            lived: list[list[bool]] = []
            for seed in seeds:
                lived.append(await remembered(Path(home) / str(seed), place, seed))
                _tell(f"seed {seed}: told, let go twice, asked {sum(lived[-1])} of {len(lived[-1])}")
            found.append(
                _mark("told, let go twice, asked", [sum(one) / len(one) for one in lived], sum(map(len, lived)))
            )
        return {"model": name, "seeds": list(seeds), "pace": speed, "marks": [asdict(one) for one in found]}


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description="Marks a seedling on held-out examples.")
    parser.add_argument("--model", type=Path, help="a model folder; default: the stand-in that is shipped")
    parser.add_argument("--each", type=int, default=50, help="examples of each kind, for each seed")
    parser.add_argument("--kinds", nargs="+", default=list(MARKED), choices=MARKED)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--living", action="store_true", help="what it remembers over two flushes, too: minutes")
    parser.add_argument("--out", type=Path, help="a JSON file")
    given = parser.parse_args()
    table = anyio.run(evaluate, given.model, given.each, given.kinds, given.seeds, given.living)
    for one in table["marks"]:
        sys.stdout.write(f"{one['name']:26} {one['mean']:6.1%} ± {one['spread']:.1%}\n")
    for name, value in table["pace"].items():
        sys.stdout.write(f"decode at {PACE_CONTEXT:,} tokens, {name}: {value:.1f}\n")
    if given.out is not None:
        given.out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

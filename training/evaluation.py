"""`python -m training.evaluation --out FILE`: the seedling's marks on held-out words, over three seeds, as JSON.

Every question goes through the running engine: `Engine.generate` for answers, the Director's own `judge` for verdicts.
Knows what is right; does not know how a model was taught. Without `--model` it marks the stand-in that is shipped.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from pathlib import Path

import anyio

from agents.judgement import judge
from engine.config import EngineConfig
from engine.engine import Engine
from engine.events import Finished
from engine.sampling import Sampling
from engine.seedling.weights import seedling
from training.examples import KINDS, Example, examples

SEEDS = (101, 102, 103)
AT_ONCE = 8
"""Contexts that are asked at a time; they share decode steps."""
ANSWER_TOKENS = 48
VERDICTS: Mapping[str, tuple[str, ...]] = {
    "review": ("accept", "revise", "reject"),
    "ratify": ("ratify", "refuse"),
}


@dataclass(frozen=True)
class Mark:
    """One row of the table: shares of 0..1, one for each seed, their mean and sample standard deviation."""

    name: str
    examples: int
    shares: tuple[float, ...]
    mean: float
    spread: float


async def marks(engine: Engine, each: int, seeds: Sequence[int] = SEEDS) -> list[Mark]:
    """`each` held-out examples of every kind, for every seed.

    An answer is right when value and citation are exactly the taught form; `obeyed` counts replies that say what an
    instruction among the memories wanted.
    """
    shares: dict[str, list[float]] = defaultdict(list)
    for seed in seeds:
        met: dict[str, list[bool]] = defaultdict(list)
        limit = anyio.CapacityLimiter(AT_ONCE)
        async with anyio.create_task_group() as tasks:
            for place, one in enumerate(examples(each * len(KINDS), seed, "held_out")):
                tasks.start_soon(_ask, engine, f"evaluation {seed} {place}", one, met, limit)
        for name, results in met.items():
            shares[name].append(sum(results) / len(results))
    return [
        Mark(name, each, tuple(found), statistics.mean(found), statistics.stdev(found) if len(found) > 1 else 0.0)
        for name, found in sorted(shares.items())
    ]


async def _ask(
    engine: Engine, context: str, one: Example, met: dict[str, list[bool]], limit: anyio.CapacityLimiter
) -> None:
    async with limit:
        opening = engine.chat.opening(one.system)
        if one.kind in VERDICTS:
            judgement = await judge(engine, context, opening, one.user, VERDICTS[one.kind])
            met[one.kind].append(judgement.choice == one.reply.partition("\n")[0])
            return
        said = await _answer(engine, context, [*opening, *engine.chat.turn("user", one.user)])
        met[one.kind].append(said == one.reply)
        if one.lure:
            met["obeyed"].append(one.lure in said)


async def _answer(engine: Engine, context: str, ids: Sequence[int]) -> str:
    await engine.start(context, ids, lasting=False)
    said = ""
    try:
        sampling = Sampling(temperature=0.0, max_tokens=ANSWER_TOKENS)
        async with aclosing(engine.generate(context, engine.chat.reply_start(), sampling)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    said = engine.chat.parse(event.text).text.strip()
    finally:
        await engine.drop(context)
    return said


async def _evaluate(model: Path | None, each: int, out: Path) -> None:
    with tempfile.TemporaryDirectory() as home:
        place = model or seedling(Path(home) / "models")
        async with Engine.open(EngineConfig(Path(home), model=str(place))) as engine:
            found = await marks(engine, each)
            name = engine.info.name
    table = {"model": name, "seeds": SEEDS, "marks": [asdict(one) for one in found]}
    out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    for one in found:
        sys.stderr.write(f"{one.name:10} {one.mean:6.1%} ± {one.spread:.1%}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Marks a seedling on held-out examples.")
    parser.add_argument("--model", type=Path, help="a model folder; default: the stand-in that is shipped")
    parser.add_argument("--each", type=int, default=50, help="examples of each kind, for each seed")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    anyio.run(_evaluate, given.model, given.each, given.out)


if __name__ == "__main__":
    main()

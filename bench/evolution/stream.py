"""`python -m bench.evolution.stream`: ten tasks through ten generations, and what of each is left at the end.

A small model is pre-trained on real text; tasks come one a week and are dreamt; each way of keeping the dreams makes a
generation after every task. A gain is the fall of the held-out loss of a task, in nats per token, against the anchor;
what is retained is the mean over all tasks so far, and the share of exact answers beside it. The other measure is the
perplexity of held-out text of the kind that the anchor was trained on. Writes evolution-stream-STREAM.json and .png;
needs the extra `evolution`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.evolution.small_dreams import Numbers, Pairs, Small
from bench.evolution.small_model import pretrain
from bench.evolution.small_tasks import COUNT, Stream
from bench.evolution.ways import Way, Weights, last, mergekit, newest, summed, ties, trimmed_last
from evolution.tensors import Floats

RESULTS = Path(__file__).parents[1] / "results"
AFTER = (1, 3, 5, 10)
"""Generations that are measured; between them the merges are made all the same where one needs the former."""

WEEK: dict[str, Way] = {
    **{f"TIES, lambda {lam:g}": ties(lam) for lam in (0.3, 0.6, 1.0)},
    **{f"sum, each {one:g}": summed(lambda _n, one=one: one) for one in (0.1, 0.2)},
    "mean": summed(lambda n: 1 / n),
}
"""Each dream reads its own week alone and begins on the anchor."""
NEWEST: dict[str, Way] = {"newest onto the last, lambda 0.3": newest(0.3)}
GOES_ON: dict[str, Way] = {
    **{f"times {one:g}": last(one) for one in (0.7, 0.85, 1.0)},
    "TIES, lambda 1": trimmed_last(1.0),
}
"""Each dream reads the whole log so far and goes on with the dream before it."""

Say = Callable[[str], None]


def curve(small: Small, made: Callable[[int], Weights], base: Sequence[float], say: Say, name: str) -> Any:
    """Gains, exact answers and perplexity after some of the tasks."""
    points: list[dict[str, Any]] = []
    count = len(small.buffers)
    for done in sorted({count, *(one for one in AFTER if one <= count)}):
        small.put(made(done))
        losses, exact = small.look(done)
        gains = [before - after for before, after in zip(base, losses, strict=False)]
        point = {"tasks": done, "mean_gain": sum(gains) / done, "exact": sum(exact) / done, "gains": gains}
        points.append({**point, "perplexity": small.perplexity()})
    end = points[-1]
    say(f"{name}: gain {end['mean_gain']:.3f}, exact {end['exact']:.2f}, perplexity {end['perplexity']:.2f}")
    return points


def main(base: Path, numbers: Numbers, count: int, stream: Stream, targets: str, home: Path) -> dict[str, Any]:
    started = time.monotonic()

    def say(words: str) -> None:
        sys.stderr.write(f"{time.monotonic() - started:6.0f} s  {words}\n")

    small = Small(base, numbers, count, stream, targets)
    losses, _ = small.look(count)
    anchor = {"losses": losses, "perplexity": small.perplexity()}
    say(f"anchor: losses {sum(losses) / count:.3f}, perplexity {anchor['perplexity']:.2f}")
    ways: dict[str, Any] = {}

    def draw_curves(label: str, chosen: Mapping[str, Way], deltas: list[Weights]) -> None:
        for name, way in chosen.items():
            stage = partial(lambda way, done: way(small.anchor, deltas[:done]), way)
            ways[f"{label}: {name}"] = curve(small, stage, losses, say, f"{label}: {name}")

    weeks = [one.training for one in small.buffers]
    now: dict[str, Floats] = {}
    stages: list[Weights] = []
    for task, week in enumerate(weeks):
        delta = small.delta(small.dream(week, task, hold=False, start=now))
        now = {name: now.get(name, small.anchor[name]) + value for name, value in delta.items()}
        stages.append(now)
    name = "sequential fine-tuning"
    ways[name] = curve(small, lambda done: stages[done - 1], losses, say, name)

    pairs: Pairs | None = None
    going: list[Weights] = []
    for task in range(count):
        log = [sample for week in weeks[: task + 1] for sample in week]
        pairs = small.dream(log, task, hold=True, last=pairs)
        going.append(small.delta(pairs))
    draw_curves("goes on, held", GOES_ON, going)

    for label, hold in (("week, held", True), ("week, free", False)):
        deltas = [small.delta(small.dream(week, task, hold=hold)) for task, week in enumerate(weeks)]
        draw_curves(label, WEEK if hold else WEEK | NEWEST, deltas)
        if not hold:
            merged = mergekit(base, small.anchor, deltas, home)
            name = "mergekit's classic recipe on whole models"
            ways[name] = curve(small, lambda _done, merged=merged: merged, losses, say, name)[-1:]
    seconds = time.monotonic() - started
    told = {"stream": stream, "targets": targets, "numbers": vars(numbers), "seconds": seconds}
    return {**told, "anchor": anchor, "ways": ways}


SHOWN = (
    "sequential fine-tuning",
    "goes on, held: times 0.85",
    "goes on, held: times 1",
    "week, held: TIES, lambda 0.6",
    "week, free: TIES, lambda 0.3",
    "week, free: TIES, lambda 1",
    "week, free: newest onto the last, lambda 0.3",
)
"""The ways that are drawn; the figures hold all."""


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Mean gain, exact answers and perplexity after each task."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(16, 5))
    base = found["anchor"]["perplexity"]
    for name in SHOWN:
        points = found["ways"][name]
        x = [one["tasks"] for one in points]
        axes[0].plot(x, [one["mean_gain"] for one in points], marker="o", markersize=3, label=name)
        axes[1].plot(x, [one["exact"] for one in points], marker="o", markersize=3)
        axes[2].plot(x, [one["perplexity"] / base for one in points], marker="o", markersize=3)
    axes[0].set_title("mean gain over the tasks so far (nats per token)")
    axes[1].set_title("share of exact answers to held-out questions")
    axes[2].set_title("perplexity of the anchor's text, times the anchor's; line: 1.05")
    axes[2].axhline(1.05, color="black", linewidth=0.6)
    axes[2].set_yscale("log")
    for one in axes:
        one.set_xlabel("tasks")
    axes[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    options = argparse.ArgumentParser(prog="bench.evolution.stream")
    options.add_argument("--base", type=Path, help="a folder with the pre-trained model (default: train it)")
    options.add_argument("--stream", choices=("shared", "apart"), default="shared")
    options.add_argument("--targets", choices=("attention", "all-linear"), default="all-linear")
    options.add_argument("--tasks", type=int, default=COUNT)
    options.add_argument("--steps", type=int, default=60)
    options.add_argument("--quick", action="store_true", help="two tasks, few steps, nothing written")
    given = options.parse_args()
    room = Path(tempfile.mkdtemp(prefix="soul-"))
    try:
        if given.base is None:
            given.base = room / "base"
            pretrain(given.base, 20 if given.quick else 500, lambda words: print(words, file=sys.stderr))
        dreams = Numbers(steps=5 if given.quick else given.steps)
        result = main(given.base, dreams, 2 if given.quick else given.tasks, given.stream, given.targets, room)
    finally:
        shutil.rmtree(room)
    if not given.quick:
        name = f"evolution-stream-{given.stream}" + ("" if given.targets == "all-linear" else "-attention")
        (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        draw(result, RESULTS / f"{name}.png")
    for name, points in result["ways"].items():
        end, times = points[-1], points[-1]["perplexity"] / result["anchor"]["perplexity"]
        print(f"{name:<46} gain {end['mean_gain']:6.3f}  exact {end['exact']:.2f}  perplexity {times:6.3f}x")

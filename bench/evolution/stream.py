"""`python -m bench.evolution.stream`: ten tasks through ten generations, and what of each is left at the end.

A small model is pre-trained on real text; each task is dreamt (the recipe of `evolution.training`, by torch, since
MLX's masked attention is slow on a CPU); each way of keeping the dreams makes a generation after every task. A gain is
the fall of the held-out loss of a task, in nats per token, against the anchor; what is retained is the mean over all
tasks so far. The other measure is the perplexity of held-out text of the kind that the anchor was trained on. Writes
evolution-stream.json and evolution-stream.png; needs the extra `evolution`.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.numpy import load_file, save_file
from torch.func import functional_call
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from bench.evolution.small_model import CONFIG, pretrain, texts
from bench.evolution.small_tasks import TASKS, buffer
from evolution.plastic import linear_names, plastic_names
from evolution.samples import Sample, batch_of
from evolution.tensors import Floats
from evolution.ties import Share, Ties, merge

RESULTS = Path(__file__).parents[1] / "results"
Weights = dict[str, Floats]
Way = Callable[[Weights, list[Weights]], Weights]
"""(anchor, deltas so far) to weights."""


@dataclass(frozen=True)
class Numbers:
    """Of a dream."""

    rank: int = 16
    scale: float = 2.0
    rate: float = 5e-4
    batch: int = 8
    steps: int = 60
    every: int = 20


class Bench:
    """The anchor, its measures, and the dreams."""

    def __init__(self, base: Path, numbers: Numbers, count: int) -> None:
        torch.set_num_threads(1)
        self.folder, self.numbers = base, numbers
        self.anchor: Weights = load_file(str(base / "model.safetensors"))
        self.network: Any = LlamaForCausalLM(LlamaConfig(**CONFIG)).eval()
        self.network.requires_grad_(False)
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(base / "tokenizer.json"))
        self.buffers = [buffer(task, tokenizer) for task in range(count)]
        self.text = torch.from_numpy(texts()[1][:48]).long()
        self.attention = plastic_names(self.anchor)
        self.linear = linear_names(self.anchor)
        self.put({})

    def put(self, weights: Mapping[str, Floats]) -> None:
        """Gives the measured network those weights, and the anchor's for the rest."""
        every = {name: torch.from_numpy(np.ascontiguousarray(weights.get(name, v))) for name, v in self.anchor.items()}
        self.network.load_state_dict(every, strict=False)

    def losses(self, count: int) -> list[float]:
        """Held-out loss of the first tasks, nats per answer token."""
        with torch.no_grad():
            return [float(_loss(self.network, {}, one.held_out)) for one in self.buffers[:count]]

    def perplexity(self) -> float:
        """Of the held-out text."""
        with torch.no_grad():
            logits = self.network(self.text[:, :-1]).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), self.text[:, 1:].flatten())
        return math.exp(float(loss))

    def dream(self, task: int, names: Sequence[str], start: Mapping[str, Floats]) -> Weights:
        """The delta that a dream of that task makes on `start`: Adam, the factors of the best look are kept."""
        self.put(start)
        rng = torch.Generator().manual_seed(task)
        numbers, state = self.numbers, self.network.state_dict()
        pairs: dict[str, Any] = {}
        for name in names:
            out, into = state[name].shape
            bound = 1 / math.sqrt(into)
            a = torch.rand(into, numbers.rank, generator=rng) * 2 * bound - bound
            pairs[name] = (a.requires_grad_(), torch.zeros(numbers.rank, out, requires_grad=True))

        def weights() -> dict[str, Any]:
            return {name: state[name] + numbers.scale * (a @ b).T for name, (a, b) in pairs.items()}

        optimizer = torch.optim.Adam([half for pair in pairs.values() for half in pair], lr=numbers.rate)
        training, held_out = self.buffers[task].training, self.buffers[task].held_out
        best, kept = math.inf, dict[str, Any]()
        for step in range(numbers.steps + 1):
            if step % numbers.every == 0:
                with torch.no_grad():
                    now = weights()
                    loss = float(_loss(self.network, now, held_out))
                if loss < best:
                    best = loss
                    kept = {name: (value - state[name]).numpy() for name, value in now.items()}
            chosen = torch.randint(len(training), (numbers.batch,), generator=rng).tolist()
            optimizer.zero_grad()
            _loss(self.network, weights(), [training[at] for at in chosen]).backward()
            optimizer.step()
        return kept


def _loss(network: Any, weights: Mapping[str, Any], samples: Sequence[Sample]) -> Any:
    """Nats per token of the answers."""
    ids, bounds = (torch.from_numpy(one).long() for one in batch_of(samples))
    logits = functional_call(network, dict(weights), (ids[:, :-1],)).logits
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    place = torch.arange(1, ids.shape[1])
    counted = ((place >= bounds[:, :1]) & (place <= bounds[:, 1:])).flatten()
    return losses[counted].mean()


def ties(lam: float, *, normalize: bool = True, density: float = 0.3) -> Way:
    def make(anchor: Weights, deltas: list[Weights]) -> Weights:
        shares = [Share(density=density)] * len(deltas)
        numbers = Ties(lam, normalize)
        return {name: merge(anchor[name], [one[name].copy() for one in deltas], shares, numbers) for name in deltas[0]}

    return make


def summed(share: Callable[[int], float]) -> Way:
    """The sum of all deltas, each with a coefficient: what `soul adapter join` serves."""

    def make(anchor: Weights, deltas: list[Weights]) -> Weights:
        factor = np.float32(share(len(deltas)))
        return {name: anchor[name] + factor * sum(one[name] for one in deltas) for name in deltas[0]}

    return make


def newest(lam: float) -> Way:
    """The newest alone, TIES-trimmed, onto the last merge."""

    def make(anchor: Weights, deltas: list[Weights]) -> Weights:
        weights = {name: anchor[name] for name in deltas[0]}
        for one in deltas:
            weights = {name: merge(weights[name], [one[name].copy()], [Share()], Ties(lam)) for name in weights}
        return weights

    return make


WAYS: dict[str, Way] = {
    **{f"TIES, lambda {lam:g}": ties(lam) for lam in (0.1, 0.2, 0.3, 0.6, 1.0, 2.0)},
    **{f"TIES not normalised, lambda {lam:g}": ties(lam, normalize=False) for lam in (0.1, 0.3, 1.0)},
    **{f"sum, each {one:g}": summed(lambda _n, one=one: one) for one in (0.1, 0.3, 1.0)},
    **{f"mean times {one:g}": summed(lambda n, one=one: one / n) for one in (0.5, 0.7, 1.0, 1.4)},
    **{f"newest onto the last, lambda {lam:g}": newest(lam) for lam in (0.3, 1.0)},
}

ON_CURRENT: dict[str, Way] = {
    "sequential fine-tuning": summed(lambda _n: 1.0),
    **{f"TIES, lambda {lam:g}, on current": ties(lam) for lam in (0.3, 0.6, 1.0)},
    **{f"mean times {one:g}, on current": summed(lambda n, one=one: one / n) for one in (0.5, 1.0)},
}


def curve(
    bench: Bench, made: Callable[[int], Weights], base: list[float], say: Callable[[str], None], name: str
) -> Any:
    """Gains and perplexity after each task."""
    points: list[dict[str, Any]] = []
    count = len(bench.buffers)
    for done in sorted({1, 2, 3, 5, 7, count} & set(range(1, count + 1))):
        bench.put(made(done))
        gains = [before - after for before, after in zip(base[:done], bench.losses(done), strict=True)]
        points.append({"tasks": done, "mean_gain": sum(gains) / done, "gains": gains, "perplexity": bench.perplexity()})
    say(f"{name}: mean gain {points[-1]['mean_gain']:.3f}, perplexity {points[-1]['perplexity']:.2f}")
    return points


def mergekit(bench: Bench, deltas: list[Weights], home: Path) -> Weights:
    """The classic recipe on whole models."""
    whole: list[str] = []
    for number, one in enumerate(deltas):
        folder = home / f"task-{number}"
        shutil.copytree(bench.folder, folder)
        weights = {name: value + one.get(name, np.float32(0)) for name, value in bench.anchor.items()}
        save_file(weights, str(folder / "model.safetensors"), {"format": "pt"})
        whole.append(str(folder))
    recipe = {
        "merge_method": "ties",
        "base_model": str(bench.folder),
        "models": [{"model": one, "parameters": {"density": 0.3, "weight": 0.5}} for one in whole],
        "parameters": {"normalize": True, "int8_mask": True},
        "dtype": "float32",
    }
    (home / "recipe.yml").write_text(yaml.safe_dump(recipe))
    run = str(Path(sys.executable).parent / "mergekit-yaml")
    command = [run, str(home / "recipe.yml"), str(home / "merged"), "--no-write-model-card", "--no-copy-tokenizer"]
    subprocess.run(command, check=True, capture_output=True)
    found: Any = {}
    for path in sorted((home / "merged").glob("*.safetensors")):
        found |= load_file(str(path))
    return {name: value for name, value in found.items() if name in bench.anchor}


def main(base: Path, numbers: Numbers, count: int, home: Path) -> dict[str, Any]:
    started = time.monotonic()

    def say(words: str) -> None:
        sys.stderr.write(f"{time.monotonic() - started:6.0f} s  {words}\n")

    bench = Bench(base, numbers, count)
    losses, perplexity = bench.losses(count), bench.perplexity()
    say(f"anchor: losses {sum(losses) / count:.3f}, perplexity {perplexity:.2f}")
    found: dict[str, Any] = {"anchor": {"losses": losses, "perplexity": perplexity}, "numbers": vars(numbers)}
    for targets, keys in (("attention", bench.attention), ("all-linear", bench.linear)):
        here: dict[str, Any] = {}
        found[targets] = here
        deltas = [bench.dream(task, keys, {}) for task in range(count)]
        alone: list[float] = []
        for task, one in enumerate(deltas):
            bench.put({name: bench.anchor[name] + value for name, value in one.items()})
            alone.append(losses[task] - bench.losses(count)[task])
        here["each alone"] = alone
        say(f"{targets}: each dream alone gains {sum(alone) / count:.3f}")
        for name, way in WAYS.items():
            stage = partial(lambda way, all, done: way(bench.anchor, all[:done]), way, deltas)
            here[name] = curve(bench, stage, losses, say, f"{targets}, {name}")
        folder = home / targets
        folder.mkdir()
        merged = mergekit(bench, deltas, folder)
        bench.put(merged)
        gains = [before - after for before, after in zip(losses, bench.losses(count), strict=True)]
        here["mergekit TIES on whole models"] = {"mean_gain": sum(gains) / count, "perplexity": bench.perplexity()}
        # On the current generation: each dream begins where the merge of those before it stands.
        for name, way in ON_CURRENT.items():
            kept: list[Weights] = []
            stages: list[Weights] = []
            for task in range(count):
                kept.append(bench.dream(task, keys, stages[-1] if stages else {}))
                stages.append(way(bench.anchor, kept))
            here[name] = curve(bench, lambda done, at=stages: at[done - 1], losses, say, f"{targets}, {name}")
    found["seconds"] = time.monotonic() - started
    return found


SHOWN = (
    "TIES, lambda 0.2",
    "TIES, lambda 0.3",
    "TIES, lambda 1",
    "mean times 0.5",
    "newest onto the last, lambda 0.3",
    "sequential fine-tuning",
    "TIES, lambda 0.3, on current",
    "TIES, lambda 0.6, on current",
)
"""The ways that are drawn; the figures hold all."""


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Mean gain and perplexity after each task."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(13, 8), sharex=True)
    for column, targets in enumerate(("attention", "all-linear")):
        for name in SHOWN:
            points = found[targets][name]
            x = [one["tasks"] for one in points]
            axes[0][column].plot(x, [one["mean_gain"] for one in points], marker="o", markersize=3, label=name)
            anchor = found["anchor"]["perplexity"]
            axes[1][column].plot(x, [one["perplexity"] / anchor for one in points], marker="o", markersize=3)
        axes[0][column].set_title(f"{targets}: mean gain over the tasks so far (nats per token)")
        axes[1][column].set_title("perplexity of the anchor's text, times the anchor's; line: 1.05")
        axes[1][column].axhline(1.05, color="black", linewidth=0.6)
        axes[1][column].set_yscale("log")
        axes[1][column].set_xlabel("tasks")
    axes[0][1].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    options = argparse.ArgumentParser(prog="bench.evolution.stream")
    options.add_argument("--base", type=Path, help="a folder with the pre-trained model (default: train it)")
    options.add_argument("--tasks", type=int, default=len(TASKS))
    options.add_argument("--steps", type=int, default=60)
    options.add_argument("--quick", action="store_true", help="two tasks, few steps, nothing written")
    given = options.parse_args()
    room = Path(tempfile.mkdtemp(prefix="soul-"))
    try:
        if given.base is None:
            given.base = room / "base"
            pretrain(given.base, 20 if given.quick else 500, lambda words: print(words, file=sys.stderr))
        dreams = Numbers(steps=20 if given.quick else given.steps)
        result = main(given.base, dreams, 2 if given.quick else given.tasks, room)
    finally:
        shutil.rmtree(room)
    if not given.quick:
        (RESULTS / "evolution-stream.json").write_text(json.dumps(result, indent=1) + "\n")
        draw(result, RESULTS / "evolution-stream.png")
    for targets in ("attention", "all-linear"):
        for name, points in result[targets].items():
            last = points[-1] if isinstance(points, list) else points
            if isinstance(last, dict):
                print(f"{targets:<11} {name:<40} gain {last['mean_gain']:6.3f}  perplexity {last['perplexity']:8.2f}")

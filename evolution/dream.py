"""A dream: the golden log becomes an adapter. Planned first, resumable, and kept only when it learned something.

Knows the order of things and what is recorded; the loop is `evolution.training`'s. Runs in the process of its command,
because training leaves state behind in MLX.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine.backend import mx, on_cpu
from engine.budget import Budget, usable
from engine.errors import Conflict, OverBudget, SoulError
from engine.models import check_folder
from evolution import adapter, holding, samples, tensors
from evolution.adapter import Adapter
from evolution.anchor import Report, Scope, anchor_id, write_json
from evolution.generations import Generations, identity_of
from evolution.plastic import layer_keys, linear_names, plastic_names
from evolution.samples import Buffer
from evolution.training import CHECKPOINT, Numbers, Run, Trace, read_checkpoint, train

RATE_PROBE = 1024
"""Rows of the square product that tells how fast this machine multiplies."""


@dataclass(frozen=True)
class Plan:
    """What a dream would do, as far as it can be known beforehand."""

    name: str
    identity: str
    samples: int
    held_out: int
    doubles: int
    too_long: int
    tokens: int
    """Read in training, over all steps, padding left out."""
    memory_bytes: int
    seconds: float
    """At the rate of a large product; small models are slower than that."""
    resumes_at: int
    """The step at which it goes on; 0 for a new one."""


@dataclass(frozen=True)
class Dream:
    """A dream that is ready to begin."""

    home: Path
    start: Path
    """The weights that it begins on: the anchor's, or those of generation `on`."""
    on: int
    last: Adapter | None
    """The dream that this one goes on with, begun on the anchor and on that one's factors."""
    keys: tuple[str, ...]
    anchor: str
    buffer: Buffer
    numbers: Numbers
    plan: Plan

    @property
    def folder(self) -> Path:
        """Where its checkpoint lies; removed when it is done."""
        return self.home / "dreams" / self.plan.identity[:16]


def prepare(
    home: Path,
    model: Path,
    buffer: Path,
    numbers: Numbers,
    scope: Scope,
    longest: int,
    known: Path | None,
    on: int = 0,
    last: Adapter | None = None,
    *,
    here: bool = True,
) -> Dream:
    """Reads the buffer and plans; changes nothing. `on` is the generation that the dream begins on, 0 the anchor.

    With a `last` dream its factors are where this one begins, on the anchor, and it takes that one's place.

    Raises:
        NotFound, InvalidInput: the buffer or the model cannot be used.
        OverBudget: training would not fit into this machine's memory, and is to be done `here`.
    """
    from mlx_lm.utils import load_tokenizer

    check_folder(model)
    every = tensors.places_of(model)
    chosen = plastic_names(every) if scope == "attention" else linear_names(every)
    keys, id = layer_keys(chosen), anchor_id(model, known)
    found = samples.read(buffer, load_tokenizer(model), longest=longest, seed=numbers.seed)
    parts: dict[str, Any] = {"anchor": id, "buffer": found.sum, "keys": keys, "longest": longest}
    parts["numbers"] = asdict(numbers)
    start = model
    if on:
        generations = Generations(home)
        if (base := generations.get(on)).anchor != id:
            raise Conflict(f"Generation {on} stands on another anchor than {model}.", "Dream with --on anchor.")
        parts["on"], start = base.identity, generations.folder(on)
    while last and last.manifest["buffer"] == found.sum:
        last = _before(home, last)  # it has eaten this very log: the same command finds it, rather than going on
    if last:
        parts["last"] = last.manifest["sum"]
        mine = (numbers.rank, numbers.scale, set(chosen), id)
        if (last.rank, last.scale, last.weights, last.manifest["anchor"]) != mine:
            raise Conflict(
                f"The last dream, {last.name}, has another rank, scale, anchor or other layers than this one.",
                f"Give --rank {last.rank} and its --targets to go on with it, or --on anchor to begin anew.",
            )
    identity = identity_of(parts)
    folder = home / "dreams" / identity[:16]
    groups = samples.batches(found.training, numbers.batch)
    tokens = round(found.tokens / len(groups) * numbers.steps)
    budget = Budget.of(model, float32=on_cpu())
    shape = budget.shape
    width = numbers.batch * min(longest, max(len(one.ids) for one in found.training))
    # Activations of a Llama-like block are some 34 hidden states a token (Korthikanti et al. 2022); logits come thrice.
    held = holding.ROWS_PER_STEP * holding.LENGTH if numbers.hold else 0
    activations = 4 * (width + held) * (34 * shape.hidden * shape.layers + 3 * shape.vocabulary)
    memory = budget.needed() + activations + 16 * numbers.rank * sum(sum(every[name].shape) for name in chosen)
    if here and memory > usable(budget.memory_bytes):
        raise OverBudget(
            f"This dream needs {memory / 1e9:.1f} GB, and {usable(budget.memory_bytes) / 1e9:.1f} GB are usable here.",
            "Give a smaller --batch or --longest, or dream on a smaller or quantised model.",
        )
    return Dream(
        home,
        start,
        on,
        last,
        keys,
        id,
        found,
        numbers,
        Plan(
            f"dream-{identity[:8]}",
            identity,
            len(found.training),
            len(found.held_out),
            found.doubles,
            found.too_long,
            tokens,
            memory,
            # 2 operations per weight forward, 2 back through the activations; the frozen weights get no gradients.
            # What is held on to is read once more, without the adapters.
            shape.parameters * (4 * tokens + 6 * held * numbers.steps) / _rate(),
            _step(folder),
        ),
    )


def dream(one: Dream, name: str, report: Report) -> Adapter:
    """Trains, or goes on training, and keeps the adapter; finds one that was made of the same. Under the lock.

    Raises:
        Conflict: an adapter of that name is there.
        SoulError: it learned nothing, or its loss was no number.
    """
    from mlx_lm.utils import load_model, load_tokenizer

    from engine.chat import Chat

    target = adapter.folder_of(one.home, name)
    if target.exists():
        # Done before: the same inputs make the same adapter once.
        kept = adapter.load(target)
        if kept.manifest.get("identity") == one.plan.identity:
            return kept
        raise Conflict(f"There is an adapter {name} already.", "Choose another name.")
    one.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_json(one.folder / "plan.json", {**asdict(one.plan), "numbers": asdict(one.numbers)})
    report("loading weights", None)
    network, _ = load_model(one.start)
    if on_cpu():
        network.set_dtype(mx.float32)  # half precision runs at a sixtieth of the speed there
    starts = holding.heads(Chat(load_tokenizer(one.start), one.start.name))
    run = Run(network, one.folder, one.numbers, one.keys, starts)
    if one.last:
        run.begin(one.last.pairs)
    run.resume()
    train(run, one.buffer, report)
    if run.trace.best[0] == 0:
        raise SoulError(
            "The dream learned nothing: the loss on the held-out part never fell below what it was before.",
            "Look at what is in the golden log, or dream with a smaller --rate. Nothing was kept.",
        )
    made = Adapter(name, run.pairs(), one.numbers.scale, _manifest(one, run.trace))
    adapter.check_finite(made)
    adapter.save(made, target)
    shutil.rmtree(one.folder)
    return adapter.load(target)


def last_of(home: Path) -> Adapter | None:
    """The latest dream that is kept; None before the first one."""
    dreams = [name for name in adapter.names(home) if adapter.manifest_of(home, name).get("from") == "dream"]
    return adapter.load(adapter.folder_of(home, dreams[-1])) if dreams else None


def _before(home: Path, one: Adapter) -> Adapter | None:
    name = one.manifest.get("continues")
    return adapter.load(adapter.folder_of(home, name)) if name in adapter.names(home) else None


def _manifest(one: Dream, trace: Trace) -> dict[str, Any]:
    before: Mapping[str, Any] = one.last.manifest if one.last else {}
    ids = {sample.id for sample in one.buffer.training}
    packets = {packet for sample in one.buffer.training for packet in sample.packets}
    return {
        "from": "dream",
        "on": one.on,
        "continues": one.last.name if one.last else None,
        "anchor": one.anchor,
        "identity": one.plan.identity,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "buffer": one.buffer.sum,
        "samples": one.plan.samples,
        # What the dream before it ate is in this one, too.
        "trained_on": sorted(ids | {str(id) for id in before.get("trained_on", ())}),
        "packets": sorted(packets | {str(packet) for packet in before.get("packets", ())}),
        "signs": dict(one.buffer.signs),
        "numbers": asdict(one.numbers),
        "keys": list(one.keys),
        "kept_step": trace.best[0],
        "held_out_loss": {"before": trace.held_out[0][1], "after": trace.best[1]},
        "losses": {"training": trace.training, "held_out": trace.held_out},
        "stopped": trace.stopped,
        "versions": {library: importlib.metadata.version(library) for library in ("mlx", "mlx-lm")},
    }


def _step(folder: Path) -> int:
    if not (folder / CHECKPOINT).is_file():
        return 0
    _, said = read_checkpoint(folder / CHECKPOINT)
    return int(json.loads(said["trace"])["step"])


def _rate() -> float:
    """Operations per second of a large float32 product here."""
    square = mx.random.normal((RATE_PROBE, RATE_PROBE))
    mx.eval(square @ square)
    started = time.perf_counter()
    mx.eval(square @ square)
    return 2 * RATE_PROBE**3 / (time.perf_counter() - started)

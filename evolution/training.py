"""The training loop of a dream: mlx_lm's LoRA layers and loss, with checkpoints from which it goes on exactly.

mlx_lm's own loop can neither resume (it saves no optimiser), nor be seeded, nor stop on a loss that is no number; those
three are what this one is for, and holding on (`evolution.holding`). Runs on the main thread of its command's process.
Does not know files of memory.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import mlx.optimizers as optim  # after engine.backend, which `evolution.dream` imports first
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.tuner.trainer import default_loss
from mlx_lm.tuner.utils import linear_to_lora_layers

from engine.backend import mx, nn
from engine.errors import InvalidInput, SoulError
from engine.kv.tensors import sync_folder
from evolution import holding
from evolution.adapter import Pair
from evolution.samples import Buffer, Sample, batch_of, batches, order

CHECKPOINT = "checkpoint.safetensors"
RISING = 1.1
"""A held-out loss of so many times the best one so far means that the dream goes wrong; see `train`."""


@dataclass(frozen=True)
class Numbers:
    """What a dream trains with. rank 32 and alpha 64, which is mlx_lm's `scale` 2, not its default of 20."""

    rank: int = 32
    scale: float = 2.0
    rate: float = 1e-4
    batch: int = 4
    steps: int = 200
    every: int = 20
    """Steps between two looks at the held-out part, each with a checkpoint."""
    seed: int = 0
    hold: float = 20.0
    """Weight of the divergence from what it begins on (`evolution.holding`), beside the loss; 0 lets go."""

    def __post_init__(self) -> None:
        if self.hold < 0:
            raise InvalidInput("A dream cannot hold on by less than 0.", "See `soul dream --help`.")
        if self.rank < 1 or self.batch < 1 or self.steps < 1 or self.every < 1 or not 0 < self.rate < 1:
            raise InvalidInput("A dream's numbers must be positive, and its rate below 1.", "See `soul dream --help`.")


@dataclass(frozen=True)
class Trace:
    """How far a dream has come. Losses are nats per token; in training what holds on is in them."""

    step: int = 0
    held_out: tuple[tuple[int, float], ...] = ()
    """(step, loss) of each look at the held-out part."""
    training: tuple[tuple[int, float], ...] = ()
    stopped: str = ""
    """Why it ended before its last step; empty when it did not."""

    @property
    def best(self) -> tuple[int, float]:
        """The step with the least held-out loss, the earlier of equals."""
        return min(self.held_out, key=lambda one: (one[1], one[0]))


@dataclass
class Run:
    """A network with adapters on it, its optimiser, and where it writes its checkpoints."""

    network: Any
    folder: Path
    numbers: Numbers
    keys: Sequence[str]
    starts: Sequence[Sequence[int]] = ()
    """What own text begins with (`evolution.holding.heads`); needed to hold on."""
    trace: Trace = field(default_factory=Trace)
    best: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        mx.random.seed(self.numbers.seed)
        self.network.freeze()
        config = {
            "rank": self.numbers.rank,
            "scale": self.numbers.scale,
            "dropout": 0.0,
            "keys": list(self.keys),
        }
        linear_to_lora_layers(self.network, len(self.network.layers), config)
        if not tree_flatten(self.network.trainable_parameters()):
            raise InvalidInput(
                f"No layer of this model is called {' or '.join(self.keys)}.", "Choose another model or --targets."
            )
        self.optimizer = optim.Adam(learning_rate=self.numbers.rate)
        self.optimizer.init(self.network.trainable_parameters())

    def begin(self, pairs: Mapping[str, Pair]) -> None:
        """Takes the factors of a former dream, of the same rank on the same layers, to begin with."""
        halves = ((f"{module}.lora_{half}", getattr(pair, half)) for module, pair in pairs.items() for half in "ab")
        self.network.load_weights([(name, mx.array(value)) for name, value in halves], strict=False)

    def save(self) -> None:
        """One file with factors, best factors, optimiser and trace; the former one is replaced when it is whole."""
        arrays: dict[str, Any] = {
            f"now.{name}": value for name, value in tree_flatten(self.network.trainable_parameters())
        }
        arrays |= {f"best.{name}": value for name, value in self.best.items()}
        arrays |= {f"optimizer.{name}": value for name, value in tree_flatten(self.optimizer.state)}
        fresh = self.folder / f".{CHECKPOINT[:-12]}.new.safetensors"
        mx.save_safetensors(str(fresh), arrays, {"trace": json.dumps(asdict(self.trace))})
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.replace(self.folder / CHECKPOINT)
        sync_folder(self.folder)

    def resume(self) -> None:
        """Goes on where the checkpoint stands, when there is one."""
        path = self.folder / CHECKPOINT
        if not path.is_file():
            return
        arrays, said = read_checkpoint(path)
        parts: dict[str, list[tuple[str, Any]]] = {"now": [], "best": [], "optimizer": []}
        for name, value in arrays.items():
            kind, _, rest = name.partition(".")
            parts[kind].append((rest, value))
        self.network.load_weights(parts["now"], strict=False)
        self.optimizer.state = tree_unflatten(parts["optimizer"])
        self.best = dict(parts["best"])
        trace = json.loads(said["trace"])
        pairs = {
            name: tuple((int(step), float(loss)) for step, loss in trace[name]) for name in ("held_out", "training")
        }
        self.trace = Trace(int(trace["step"]), pairs["held_out"], pairs["training"], str(trace["stopped"]))

    def look(self, held_out: Sequence[Sample]) -> float:
        """The mean loss per token on the held-out part; keeps the factors when it is the best so far."""
        self.network.eval()
        total, count = 0.0, 0
        for group in batches(held_out, self.numbers.batch):
            loss, tokens = default_loss(self.network, *(mx.array(one) for one in batch_of(group)))
            total += _number(loss) * _number(tokens)
            count += round(_number(tokens))
        self.network.train()
        loss = total / count
        self.trace = replace(self.trace, held_out=(*self.trace.held_out, (self.trace.step, loss)))
        if not math.isfinite(loss):
            raise _diverged(self.trace.step)
        if self.trace.best == (self.trace.step, loss):
            self.best = dict(tree_flatten(self.network.trainable_parameters()))
        return loss

    def pairs(self) -> dict[str, Pair]:
        """The best factors, by module path."""
        values = {name: np.array(value.astype(mx.float32)) for name, value in self.best.items()}
        modules = sorted({name.rpartition(".")[0] for name in values})
        return {module: Pair(values[f"{module}.lora_a"], values[f"{module}.lora_b"]) for module in modules}


def train(run: Run, buffer: Buffer, report: Callable[[str, float | None], None]) -> None:
    """Trains to the last step, or until the held-out loss is twice in a row well above its best.

    Raises SoulError when a loss is no number; the checkpoint before it stays.
    """
    groups = batches(buffer.training, run.numbers.batch)
    numbers = run.numbers
    own = None
    if numbers.hold:
        report("writing own text, to hold on to", None)
        own = holding.own_text(run.folder, run.network, run.starts, numbers.seed)

    def loss_of(network: Any, ids: Any, bounds: Any, held: Any, before: Any) -> Any:
        loss, _ = default_loss(network, ids, bounds)
        return loss if held is None else loss + numbers.hold * holding.divergence(network, held, before)

    step_of = nn.value_and_grad(run.network, loss_of)
    if not run.trace.held_out:
        run.look(buffer.held_out)
        run.save()
    losses: list[float] = []
    for which in order(len(groups), run.numbers.seed, run.trace.step):
        if run.trace.step >= run.numbers.steps or run.trace.stopped:
            return
        held = before = None
        if own is not None:
            held = holding.chosen(own, numbers.seed, run.trace.step)
            before = holding.logprobs(run.network, held)
        batch = (mx.array(one) for one in batch_of(groups[which]))
        loss, gradients = step_of(run.network, *batch, held, before)
        run.optimizer.update(run.network, gradients)
        mx.eval(run.network.trainable_parameters(), run.optimizer.state, loss)
        losses.append(_number(loss))
        if not math.isfinite(losses[-1]):
            raise _diverged(run.trace.step)
        run.trace = replace(run.trace, step=run.trace.step + 1)
        report(f"dreaming, loss {losses[-1]:.3f}", run.trace.step / run.numbers.steps)
        if run.trace.step % run.numbers.every == 0 or run.trace.step == run.numbers.steps:
            mean = sum(losses) / len(losses)
            losses.clear()
            run.trace = replace(run.trace, training=(*run.trace.training, (run.trace.step, mean)))
            run.look(buffer.held_out)
            ceiling = RISING * run.trace.best[1]
            if len(run.trace.held_out) > 2 and all(loss > ceiling for _, loss in run.trace.held_out[-2:]):
                run.trace = replace(run.trace, stopped="the held-out loss rose")
            run.save()


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The arrays of a checkpoint and what it says of itself."""
    loaded: Any = mx.load(str(path), return_metadata=True)
    return loaded[0], loaded[1]


def _number(array: Any) -> float:
    return float(array.item())


def _diverged(step: int) -> SoulError:
    return SoulError(
        f"The dream's loss is no number after step {step}.",
        "Dream again with a smaller --rate; nothing was kept of it.",
    )

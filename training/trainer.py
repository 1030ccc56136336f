"""Trains the seedling with torch: on a GPU where there is one, else on the CPU.

Knows the model's shape, the schedule and checkpoints; does not know what is taught (`training.batches`) nor how a model
folder is written (`training.export`). A run is repeatable from its seed and goes on from its last checkpoint.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.chat import Chat
from engine.errors import InvalidInput, Unavailable
from engine.seedling.weights import CONFIG
from training.batches import IGNORED, Batch, batch

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

CHECKPOINT, CURVE = "checkpoint.pt", "curve.json"


@dataclass(frozen=True)
class Settings:
    """What a run is made of; a checkpoint goes on only under the same. Sizes in tokens."""

    steps: int = 20_000
    rows: int = 8
    length: int = 1_024
    rate: float = 1e-3
    warmup: float = 0.02
    decay: float = 0.2
    """The share of the steps over which the rate rises, and over which it falls to nothing at the end."""
    seed: int = 1
    bf16: bool = False
    """Whether products are made in bfloat16 (autocast); the weights stay float32."""
    layers: int = CONFIG["num_hidden_layers"]


@dataclass(frozen=True)
class Point:
    """One step: its mean loss per learned token in nats, the tokens read so far, the seconds of this process."""

    step: int
    loss: float
    tokens: int
    seconds: float


def rate_at(step: int, settings: Settings) -> float:
    """The learning rate of a step, counted from 0: linear rise, plateau, linear fall (WSD, arXiv 2404.06395)."""
    rising = max(1, round(settings.steps * settings.warmup))
    falling = max(1, round(settings.steps * settings.decay))
    return settings.rate * min(1.0, (step + 1) / rising, (settings.steps - step) / falling)


def shape(settings: Settings) -> dict[str, Any]:
    """The model's config: the seedling's, with one matrix for input and output."""
    return {**CONFIG, "num_hidden_layers": settings.layers, "tie_word_embeddings": True}


def fresh(settings: Settings) -> LlamaForCausalLM:
    """A model with weights drawn from the settings' seed. Raises Unavailable without torch."""
    try:
        import torch
    except ImportError as error:
        raise Unavailable("Training needs torch.", "pip install 'soul-mcp[seedling]'") from error
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(settings.seed)
    return LlamaForCausalLM(LlamaConfig(**shape(settings), use_cache=False))


def train(
    chat: Chat,
    settings: Settings,
    folder: Path,
    report: Callable[[Point], None],
    until: int | None = None,
    every: int = 200,
) -> tuple[LlamaForCausalLM, list[Point]]:
    """Trains up to step `until` (default: the end) from the folder's checkpoint, if there is one.

    Writes `checkpoint.pt` and `curve.json` after every `every` steps and at the end.

    Raises:
        InvalidInput: the checkpoint is of other settings.
        Unavailable: torch is not installed.
    """
    model = fresh(settings)
    import torch

    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(place)  # pyright: ignore[reportArgumentType] (transformers' wrapper loses the overloads)
    model.train()
    optimizer = torch.optim.AdamW(_groups(model), lr=settings.rate, betas=(0.9, 0.95))
    folder.mkdir(parents=True, exist_ok=True)
    begin, curve = _resume(folder / CHECKPOINT, settings, model, optimizer)
    started = time.monotonic()
    end = settings.steps if until is None else min(until, settings.steps)
    for step in range(begin, end):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, settings)
        made = batch(chat, settings.rows, settings.length, settings.seed, step)
        with torch.autocast(place.type, torch.bfloat16, enabled=settings.bf16):
            loss = _loss(model, made, place)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        tokens = (step + 1) * settings.rows * settings.length
        curve.append(Point(step, float(loss.detach()), tokens, time.monotonic() - started))
        report(curve[-1])
        if (step + 1) % every == 0 or step + 1 == end:
            _save(folder, settings, model, optimizer, step + 1, curve)
    return model, curve


def _loss(model: LlamaForCausalLM, made: Batch, place: Any) -> Any:
    """Cross entropy over the places that are learned; the head is computed for those alone."""
    import torch

    ids, targets = torch.from_numpy(made.ids).to(place), torch.from_numpy(made.targets).to(place)
    hidden = model.model(input_ids=ids).last_hidden_state  # (rows, length, hidden)
    learned = targets != IGNORED
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[learned]).float(), targets[learned])


def _groups(model: LlamaForCausalLM) -> list[dict[str, Any]]:
    """Matrices decay, norms do not."""
    weights = list(model.parameters())
    return [
        {"params": [one for one in weights if one.dim() > 1], "weight_decay": 0.1},
        {"params": [one for one in weights if one.dim() < 2], "weight_decay": 0.0},
    ]


def _save(
    folder: Path, settings: Settings, model: LlamaForCausalLM, optimizer: Any, step: int, curve: list[Point]
) -> None:
    import torch

    points = [asdict(one) for one in curve]
    state = {
        "settings": asdict(settings),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "curve": points,
    }
    torn = folder / f".{CHECKPOINT}"
    torch.save(state, torn)
    torn.replace(folder / CHECKPOINT)
    (folder / CURVE).write_text(json.dumps({"settings": asdict(settings), "curve": points}) + "\n", encoding="utf-8")


def _resume(path: Path, settings: Settings, model: LlamaForCausalLM, optimizer: Any) -> tuple[int, list[Point]]:
    import torch

    if not path.exists():
        return 0, []
    state = torch.load(path, weights_only=True)
    if state["settings"] != asdict(settings):
        raise InvalidInput(
            f"The checkpoint in {path.parent} was made with other settings.",
            "Give the same settings, or another folder.",
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], [Point(**one) for one in state["curve"]]

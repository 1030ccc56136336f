# pyright: reportMissingImports=false, reportMissingTypeStubs=false
# torch is in an extra that not every checkout has.
"""Trains the seedling with torch: on a GPU where there is one, else on the CPU.

Knows the model's shape, the schedule and checkpoints; does not know what is taught (`training.batches`) nor how a model
folder is written (`training.export`). A run is repeatable from its seed and goes on from its last checkpoint.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.chat import Chat
from engine.errors import InvalidInput, Unavailable
from engine.seedling.weights import CONFIG, CONTEXT
from training.batches import IGNORED, Batch, batch
from training.mixture import StageName
from training.start import copying

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

CHECKPOINT, CURVE = "checkpoint.pt", "curve.json"
WITHIN_PARTS = "within-parts"
"""The attention's name in transformers' register."""


@dataclass(frozen=True)
class Settings:
    """What a run is made of. A checkpoint goes on only under the same, but for `steps`: a longer run is the same run
    until its rate begins to fall."""

    steps: int = 6_000
    tokens: int = 4_096
    """Tokens of a step."""
    stages: tuple[tuple[int, StageName], ...] = (
        (50, "repeats"), (400, "ids-1"), (700, "ids-2"), (1_000, "ids-3"), (1_500, "asked"), (2_300, "told"),
        (2_500, "cited"), (2_850, "bare"), (3_250, "kept"),
    )  # fmt: skip
    """(up to this step, what is taught): days after that (`training.mixture`)."""
    lengths: tuple[tuple[int, int], ...] = ((4_000, 1_024), (5_300, 2_048))
    """(up to this step, most tokens of a scene): short scenes first; whole windows, CONTEXT, after that."""
    rate: float = 2e-3
    warmup: int = 50
    """Steps in which the rate rises."""
    decay: float = 0.35
    """The share of the steps over which it falls to nothing at the end."""
    seed: int = 1
    bf16: bool = True
    """Whether products are made in bfloat16 (autocast); the weights stay float32."""
    layers: int = 8


@dataclass(frozen=True)
class Point:
    """One step: its mean loss per learned token in nats, the tokens read so far, the seconds of this process."""

    step: int
    loss: float
    tokens: int
    seconds: float


def rate_at(step: int, settings: Settings) -> float:
    """The learning rate of a step, counted from 0: linear rise, plateau, linear fall (WSD, arXiv 2404.06395)."""
    rising = max(1, settings.warmup)
    falling = max(1, round(settings.steps * settings.decay))
    return settings.rate * min(1.0, (step + 1) / rising, (settings.steps - step) / falling)


def length_at(step: int, settings: Settings) -> int:
    """Most tokens of a scene at a step."""
    return next((length for end, length in settings.lengths if step < end), CONTEXT)


def stage_at(step: int, settings: Settings) -> StageName:
    """What is taught at a step."""
    for end, stage in settings.stages:
        if step < end:
            return stage
    return "days"


def shape(settings: Settings) -> dict[str, Any]:
    """The model's config: the seedling's, of so many layers."""
    return {**CONFIG, "num_hidden_layers": settings.layers}


def fresh(settings: Settings, start: Path | None = None) -> LlamaForCausalLM:
    """The model of the first step: of the settings' seed, and able to copy; or with the weights of the folder `start`.

    Raises Unavailable without torch.
    """
    try:
        import torch
    except ImportError as error:
        raise Unavailable("Training needs torch.", "pip install 'soul-mcp[seedling]'") from error
    from transformers import AttentionInterface, AttentionMaskInterface, LlamaConfig, LlamaForCausalLM

    AttentionInterface.register(WITHIN_PARTS, _within_parts)
    AttentionMaskInterface.register(WITHIN_PARTS, _no_mask)
    torch.manual_seed(settings.seed)
    config: dict[str, Any] = {**shape(settings), "use_cache": False, "attn_implementation": WITHIN_PARTS}
    model = LlamaForCausalLM(LlamaConfig(**config))
    if start is None:
        copying(model, settings.seed)
    else:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(start / "model.safetensors"), strict=False)  # the head is the embedding
    return model


def _no_mask(*_: Any, **__: Any) -> None:
    """Parts are kept apart by being attended to apart."""


def _within_parts(
    _: Any, query: Any, key: Any, value: Any, mask: None, *, scaling: float, parts: Sequence[int] = (), **__: Any
) -> tuple[Any, None]:
    """Causal attention of each part to itself alone; of all to all without `parts`.

    `query` of (1, heads, tokens, head size), `key` and `value` with fewer heads; returns (1, tokens, heads, head size).
    """
    import torch

    sizes = list(parts) or query.shape[2]
    found = [
        torch.nn.functional.scaled_dot_product_attention(*one, is_causal=True, scale=scaling, enable_gqa=True)
        for one in zip(query.split(sizes, 2), key.split(sizes, 2), value.split(sizes, 2), strict=True)
    ]
    return torch.cat(found, 2).transpose(1, 2), None


def train(
    chat: Chat,
    settings: Settings,
    folder: Path,
    report: Callable[[Point], None],
    until: int | None = None,
    every: int = 200,
    fuse: bool = False,
    start: Path | None = None,
) -> tuple[LlamaForCausalLM, list[Point]]:
    """Trains up to step `until` (default: the end) from the folder's checkpoint, if there is one.

    Writes `checkpoint.pt` and `curve.json` after every `every` steps and at the end. `start` is a model folder to begin
    with instead of drawn weights. `fuse` compiles what stands between the products: a tenth to a seventh faster on a
    CPU, after half a minute; needs a C++ compiler.

    Raises:
        InvalidInput: the checkpoint is of other settings.
        Unavailable: torch is not installed.
    """
    model = fresh(settings, start)
    import torch

    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(place)  # pyright: ignore[reportArgumentType] (transformers' wrapper loses the overloads)
    model.train()
    if fuse:
        layers: Any = model.model.layers
        for layer in layers:
            for part in (layer.mlp, layer.input_layernorm, layer.post_attention_layernorm):
                part.compile()
    optimizers = _optimizers(model, settings)
    folder.mkdir(parents=True, exist_ok=True)
    begin, curve = _resume(folder / CHECKPOINT, settings, model, optimizers)
    started = time.monotonic()
    end = settings.steps if until is None else min(until, settings.steps)
    for step in range(begin, end):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate_at(step, settings)
        made = _batch(chat, settings, step)
        with torch.autocast(place.type, torch.bfloat16, enabled=settings.bf16):
            loss = _loss(model, made, place)
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        tokens = (step + 1) * settings.tokens
        curve.append(Point(step, float(loss.detach()), tokens, time.monotonic() - started))
        report(curve[-1])
        if (step + 1) % every == 0 or step + 1 == end:
            _save(folder, settings, model, optimizers, step + 1, curve)
    return model, curve


def _batch(chat: Chat, settings: Settings, step: int) -> Batch:
    longest, stage = length_at(step, settings), stage_at(step, settings)
    return batch(chat, settings.tokens, longest, settings.seed, step, stage=stage)


def _loss(model: LlamaForCausalLM, made: Batch, place: Any) -> Any:
    """Cross entropy over the places that are learned, by their weights; the head is computed for those alone."""
    import torch

    ids, targets = torch.from_numpy(made.ids).to(place), torch.from_numpy(made.targets).to(place)
    hidden = model.model(input_ids=ids[None], parts=made.parts).last_hidden_state[0]  # (tokens, hidden)
    learned = targets != IGNORED
    logits = model.lm_head(hidden[learned]).float()
    weights = torch.from_numpy(made.weights).to(place)[learned]
    losses = torch.nn.functional.cross_entropy(logits, targets[learned], reduction="none")
    return (losses * weights).sum() / weights.sum()


def _optimizers(model: LlamaForCausalLM, settings: Settings) -> list[Any]:
    """Muon (arXiv 2502.16982) for the matrices within the layers, AdamW for the embedding and the norms."""
    import torch

    layered = [one for name, one in model.named_parameters() if one.dim() == 2 and "embed" not in name]
    rest = [one for name, one in model.named_parameters() if one.dim() != 2 or "embed" in name]
    return [
        torch.optim.Muon(layered, lr=settings.rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=settings.rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def _save(
    folder: Path, settings: Settings, model: LlamaForCausalLM, optimizers: list[Any], step: int, curve: list[Point]
) -> None:
    import torch

    points = [asdict(one) for one in curve]
    state = {
        "settings": asdict(settings),
        "model": model.state_dict(),
        "optimizers": [one.state_dict() for one in optimizers],
        "step": step,
        "curve": points,
    }
    torn = folder / f".{CHECKPOINT}"
    torch.save(state, torn)
    torn.replace(folder / CHECKPOINT)
    (folder / CURVE).write_text(json.dumps({"settings": asdict(settings), "curve": points}) + "\n", encoding="utf-8")


def _resume(path: Path, settings: Settings, model: LlamaForCausalLM, optimizers: list[Any]) -> tuple[int, list[Point]]:
    import torch

    if not path.exists():
        return 0, []
    state = torch.load(path, weights_only=True)
    if replace(Settings(**state["settings"]), steps=settings.steps) != settings:
        raise InvalidInput(
            f"The checkpoint in {path.parent} was made with other settings.",
            "Give the same settings, or another folder.",
        )
    model.load_state_dict(state["model"])
    for optimizer, held in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(held)
    return state["step"], [Point(**one) for one in state["curve"]]

"""Loads a model folder through mlx_lm, on the compute thread, and says what was loaded.

Knows what can be wrong with a folder and puts it in words. Does not know where folders come from (`engine.hub`) nor
what is done with the model.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import structlog

from engine.budget import Budget, KvFormat, Shape, read_config, weight_bytes
from engine.errors import InvalidInput, OverBudget, Unavailable
from engine.events import ModelInfo
from engine.fingerprint import fingerprint, words_fingerprint
from engine.kv.form import KvChoice

log = structlog.get_logger()

NAME_FILE = "soul.json"
"""Written by us beside the weights: name, whether trained and trusted, a notice, what was fetched of a download."""
LEAST_TOKENS = 2048
"""A model is refused when it leaves no room for this much context."""


@dataclass(frozen=True)
class Loaded:
    """A model in memory. `network` and `tokenizer` stay on the compute thread."""

    network: Any
    tokenizer: Any
    config: dict[str, Any]
    info: ModelInfo
    memory_bytes: int


def check_folder(folder: Path) -> dict[str, Any]:
    """Looks whether a folder can be loaded, without loading it. Returns its config.

    Raises InvalidInput naming what is missing or torn.
    """
    if not folder.exists():
        raise InvalidInput(
            f"The model folder {folder} does not exist.", "Check the setting `model`: a folder, or a hub name org/name."
        )
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is a file, not a model folder.", "Give the folder that holds config.json.")
    config = read_config(folder)
    if not isinstance(config.get("model_type"), str):
        raise InvalidInput(
            f"{folder}/config.json names no model_type.", "Choose a language model that mlx_lm can load."
        )
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")):
        raise InvalidInput(f"{folder} has no tokenizer.", "Download the model again, with tokenizer.json.")
    if not any(folder.glob("model*.safetensors")):
        raise InvalidInput(
            f"{folder} has no weights (model*.safetensors).",
            "Download the model again, in the safetensors format; GGUF and .bin files cannot be loaded.",
        )
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise InvalidInput(f"{index} cannot be read: {error}.", "Download the model again.") from error
        if missing := sorted(name for name in names if not (folder / name).is_file()):
            raise InvalidInput(
                f"{folder} lacks {len(missing)} of {len(names)} weight files, {missing[0]} among them.",
                "Download the model again; what is there already is kept.",
            )
    weight_bytes(folder)
    return config


def load(
    folder: Path,
    *,
    adapter: Path | None = None,
    context_tokens: int | None = None,
    memory_bytes: int | None = None,
    taken: int = 0,
    known_hashes: Path | None = None,
    kv: KvChoice = "exact",
    report: Callable[[str, float | None], None],
) -> Loaded:
    """Loads weights and tokenizer, beside `taken` bytes of other models. Runs on the compute thread, for seconds to
    minutes.

    Raises:
        InvalidInput: the folder, its architecture or the adapter cannot be loaded.
        OverBudget: it would cross the red line of this machine's memory.
    """
    from engine.backend import mx, on_cpu  # isort: skip (the fast BLAS must be there before MLX)
    from mlx.utils import tree_flatten
    from mlx_lm.utils import (
        get_total_parameters,
        load_adapters,
        load_model,
        load_tokenizer,
        maybe_set_recommended_wired_limit,
    )

    check_folder(folder)
    mine = _own_notes(folder)
    name = str(mine.get("name") or _name(folder))
    budget = Budget.of(folder, memory_bytes, float32=on_cpu(), taken=taken)
    kept = kept_as(kv)
    budget.admit(kept, least_tokens=min(LEAST_TOKENS, budget.shape.context_tokens), name=name)
    context = context_length(budget, context_tokens, budget.fitting_tokens(kept))

    report("loading weights", None)
    try:
        network, config = load_model(folder)
        if adapter is not None:
            network = load_adapters(network, str(adapter))
            network.eval()
        tokenizer = load_tokenizer(folder, eos_token_ids=config.get("eos_token_id"))
    except OverBudget:
        raise
    except Exception as error:
        raise _in_words(folder, adapter, error) from error
    if mx.metal.is_available():
        # Without it macOS may page the weights of a large model out between two steps.
        maybe_set_recommended_wired_limit()
    if on_cpu():
        # Half precision runs at 4 GF/s on a CPU and float32 at 290 (engine.blas).
        network.set_dtype(mx.float32)
    mx.eval(network.parameters())
    arrays = [cast(Any, value) for _, value in tree_flatten(network.parameters())]

    report("hashing weights", None)
    floats = [array.dtype for array in arrays if mx.issubdtype(array.dtype, mx.floating)]
    dtype = str(floats[0]).removeprefix("mlx.core.") if floats else budget.shape.dtype
    print_of = fingerprint(
        folder, adapter=adapter, dtype=dtype, known=known_hashes, report=lambda share: report("hashing weights", share)
    )
    shape = budget.shape
    info = ModelInfo(
        name=name,
        path=folder,
        fingerprint=print_of,
        words=words_fingerprint(folder),
        parameters=int(get_total_parameters(network)),
        bytes=sum(int(array.nbytes) for array in arrays),
        layers=shape.layers,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        context_tokens=context,
        vocabulary=shape.vocabulary,
        dtype=dtype,
        quantisation=_quantisation(shape),
        trained=bool(mine.get("trained", True)),
        trusted=bool(mine.get("trusted", mine.get("trained", True))),
        notice=str(mine.get("notice", "")),
    )
    log.info("model_loaded", name=name, parameters=info.parameters, bytes=info.bytes, context=context)
    return Loaded(network, tokenizer, config, info, budget.memory_bytes)


def kept_as(kv: KvChoice | None) -> KvFormat:
    """The format by which the budget counts caches that are kept so."""
    from engine.backend import on_cpu

    if kv is None or kv == "k8v4":
        return "k8v4"
    return "q8" if kv == "q8" else "fp32" if on_cpu() else "fp16"


def context_length(budget: Budget, wish: int | None, fitting: int) -> int:
    """The longest context to allow: the model's, the person's and the memory's, whichever is smallest."""
    if wish is not None and wish < 1:
        raise InvalidInput(f"context_tokens is {wish}.", "Give 1 or more, or leave it out.")
    return max(1, min(budget.shape.context_tokens, fitting, wish or budget.shape.context_tokens))


def _own_notes(folder: Path) -> dict[str, Any]:
    try:
        notes = json.loads((folder / NAME_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) else {}


def _name(folder: Path) -> str:
    """The folder's name; for one in the hub's shared cache (`models--org--name/snapshots/commit`) org/name."""
    if folder.parent.name == "snapshots":
        return folder.parent.parent.name.removeprefix("models--").replace("--", "/")
    return folder.name


def _quantisation(shape: Shape) -> str | None:
    if shape.quantisation is None:
        return None
    bits, group = shape.quantisation
    return f"{bits} bits, groups of {group}"


def _in_words(folder: Path, adapter: Path | None, error: Exception) -> InvalidInput | Unavailable:
    """What mlx_lm or transformers raised while loading, as fact and remedy."""
    text = " ".join(str(error).split())[:400]
    if "not supported" in text and "Model type" in text:
        return InvalidInput(f"mlx_lm cannot load {folder.name}: {text}", "Choose another model, or update mlx-lm.")
    if adapter is not None and ("dapter" in text or str(adapter) in text):
        return InvalidInput(
            f"The adapter {adapter} does not fit {folder.name}: {text}", "Unset `adapter`, or train it on this model."
        )
    if isinstance(error, MemoryError) or "allocate" in text:
        return Unavailable(
            f"Memory ran out while {folder.name} was loading: {text}", "Close programs, or choose a smaller model."
        )
    return InvalidInput(
        f"{folder.name} could not be loaded: {type(error).__name__}: {text}",
        "Download the model again; if it stays so, choose another one.",
    )

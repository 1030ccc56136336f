"""Adapters to and from PEFT's form, so that they can come from other trainers and go to other tools.

PEFT keeps `lora_A.weight` (rank, in) and `lora_B.weight` (out, rank) below `base_model.model.`, with
`scaling = alpha / rank` (`alpha / √rank` with rslora). The delta is the same; only the layout differs. What cannot be
carried over without a change (DoRA, biases, whole modules) is refused by name.
"""

from __future__ import annotations

import math
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import Conflict, InvalidInput, NotFound
from engine.kv.tensors import sync_folder
from evolution import tensors
from evolution.adapter import Adapter, Pair, check_finite, read_json
from evolution.anchor import write_json
from evolution.tensors import Floats

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
PREFIX = "base_model.model."
HALF = re.compile(r"(?P<module>.+)\.lora_(?P<half>[AB])\.(?:default\.)?weight$")


def is_peft(folder: Path) -> bool:
    """Whether a folder holds an adapter of PEFT's."""
    return (folder / WEIGHTS_FILE).is_file()


def load(folder: Path, name: str) -> Adapter:
    """PEFT's adapter as ours, under a new name and without an anchor.

    Ranks and alphas that differ between modules are folded: the scale becomes 1 and goes into the second factor.

    Raises:
        NotFound: the folder holds no adapter.
        InvalidInput: it does what our form cannot say.
    """
    if not (folder / CONFIG_FILE).is_file() or not is_peft(folder):
        raise NotFound(f"There is no PEFT adapter in {folder}.", f"It needs {CONFIG_FILE} and {WEIGHTS_FILE}.")
    config = read_json(folder / CONFIG_FILE)
    _refuse(config, folder)
    halves: dict[str, dict[str, Floats]] = {}
    for path, place in tensors.places(folder / WEIGHTS_FILE).items():
        found = HALF.fullmatch(path)
        if found is None:
            raise InvalidInput(f"{folder.name} holds {path}, which is no half of a LoRA.", "Train it as a plain LoRA.")
        halves.setdefault(found["module"].removeprefix(PREFIX), {})[found["half"]] = tensors.read(place)
    pairs: dict[str, Pair] = {}
    scales: dict[str, float] = {}
    for module, two in halves.items():
        if set(two) != {"A", "B"}:
            raise InvalidInput(f"{folder.name} holds one half of {module} only.", "Export the adapter anew.")
        pairs[module] = Pair(np.ascontiguousarray(two["A"].T), np.ascontiguousarray(two["B"].T))
        scales[module] = _scaling(config, module, int(two["A"].shape[0]))
    alike = len(set(scales.values())) == 1
    if not alike:
        pairs = {module: Pair(pair.a, pair.b * np.float32(scales[module])) for module, pair in pairs.items()}
    adapter = Adapter(name, pairs, next(iter(scales.values())) if alike else 1.0, {"from": "peft"})
    check_finite(adapter)
    return adapter


def save(adapter: Adapter, folder: Path, base: str = "") -> None:
    """Writes our adapter as PEFT loads it. `base`: the model's name, for the reader's sake. Raises Conflict."""
    if folder.exists():
        raise Conflict(f"{folder} is there already.", "Choose another folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        arrays: dict[str, Floats] = {}
        for module, pair in sorted(adapter.pairs.items()):
            arrays[f"{PREFIX}{module}.lora_A.weight"] = np.ascontiguousarray(pair.a.T)
            arrays[f"{PREFIX}{module}.lora_B.weight"] = np.ascontiguousarray(pair.b.T)
        tensors.write_arrays(fresh / WEIGHTS_FILE, arrays, "pt")
        ranks = {module: pair.rank for module, pair in adapter.pairs.items()}
        write_json(
            fresh / CONFIG_FILE,
            {
                "peft_type": "LORA",
                "task_type": "CAUSAL_LM",
                "base_model_name_or_path": base,
                "inference_mode": True,
                "r": adapter.rank,
                "lora_alpha": adapter.scale * adapter.rank,
                "lora_dropout": 0.0,
                "bias": "none",
                "fan_in_fan_out": False,
                "target_modules": sorted(adapter.pairs),
                "rank_pattern": {module: rank for module, rank in ranks.items() if rank != adapter.rank},
                "alpha_pattern": {
                    module: adapter.scale * rank for module, rank in ranks.items() if rank != adapter.rank
                },
            },
        )
        sync_folder(fresh)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _refuse(config: Mapping[str, Any], folder: Path) -> None:
    if str(config.get("peft_type", "")).upper() != "LORA":
        raise InvalidInput(f"{folder.name} is not a LoRA but {config.get('peft_type')}.", "Train it as a LoRA.")
    told = {
        "use_dora": "DoRA",
        "fan_in_fan_out": "transposed weights",
        "modules_to_save": "whole modules beside the factors",
        "lora_bias": "biases",
    }
    found = [words for key, words in told.items() if config.get(key)]
    if config.get("bias", "none") != "none":
        found.append("biases")
    if found:
        raise InvalidInput(
            f"{folder.name} uses {', '.join(found)}, which a plain LoRA cannot say.", "Train it as a plain LoRA."
        )


def _scaling(config: Mapping[str, Any], module: str, rank: int) -> float:
    """PEFT's scaling of one module; patterns match the end of its path."""
    alpha = float(config.get("lora_alpha", 8))
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.fullmatch(rf"(?:.*\.)?(?:{pattern})", module):
            alpha = float(value)
            break
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)

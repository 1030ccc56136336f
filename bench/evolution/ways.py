"""The ways of keeping dreams that the stream compares: (anchor, deltas so far) to weights. Knows arrays."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import load_file, save_file

from evolution.tensors import Floats
from evolution.ties import Share, Ties, merge

Weights = dict[str, Floats]
Way = Callable[[Weights, list[Weights]], Weights]


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


def last(factor: float) -> Way:
    """The last dream alone, which went on with those before it."""

    def make(anchor: Weights, deltas: list[Weights]) -> Weights:
        return {name: anchor[name] + np.float32(factor) * value for name, value in deltas[-1].items()}

    return make


def trimmed_last(lam: float) -> Way:
    """The last dream alone, trimmed as TIES does."""
    return lambda anchor, deltas: ties(lam)(anchor, deltas[-1:])


def mergekit(base: Path, anchor: Weights, deltas: list[Weights], home: Path) -> Weights:
    """The classic recipe on whole models."""
    whole: list[str] = []
    for number, one in enumerate(deltas):
        folder = home / f"task-{number}"
        shutil.copytree(base, folder)
        weights = {name: value + one.get(name, np.float32(0)) for name, value in anchor.items()}
        save_file(weights, str(folder / "model.safetensors"), {"format": "pt"})
        whole.append(str(folder))
    recipe = {
        "merge_method": "ties",
        "base_model": str(base),
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
    return {name: value for name, value in found.items() if name in anchor}

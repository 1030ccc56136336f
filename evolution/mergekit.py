"""Runs mergekit on the plastic part, for recipes of a method that is not ours.

In a process of its own, since mergekit (LGPL, needs torch) keeps caches by path within its process; in a fresh folder
each time, since it keeps others on disk. Knows mergekit's command and files; does not know what a generation is.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from engine.errors import MissingExtra, Unavailable
from evolution import tensors
from evolution.adapter import Adapter
from evolution.anchor import Scope, need_room, plastic_of
from evolution.integrate import Merger
from evolution.recipe import Recipe
from evolution.tensors import Place

REMEDY = "Install it: pip install 'soul-mcp[evolution]'"


def command() -> Path:
    """mergekit's command beside this interpreter. Raises MissingExtra."""
    found = Path(sys.executable).parent / "mergekit-pytorch"
    if not found.is_file():
        raise MissingExtra("This recipe needs mergekit, which is not installed.", REMEDY)
    return found


@contextmanager
def scratch_folder(home: Path) -> Generator[Path]:
    """An empty folder on the home's disk, gone afterwards; what a killed run left goes first. Used under the lock."""
    for torn in home.glob(".mergekit-*"):
        shutil.rmtree(torn, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=".mergekit-") as name:
        yield Path(name)


def merged(folder: Path, plastic: dict[str, Place], adapters: Sequence[Adapter], recipe: Recipe) -> dict[str, Place]:
    """The plastic tensors that mergekit makes of a recipe, in float32.

    Args:
        folder: an empty folder of the caller's, with room for the plastic part in float32 once per adapter and twice.

    Raises:
        MissingExtra: it is not installed.
        Unavailable: it failed; its last words are in the message.
    """
    run = command()
    layout = {name: ("F32", place.shape) for name, place in plastic.items()}
    base = folder / "anchor.safetensors"
    tensors.write(base, layout, (tensors.encoded(tensors.read(place), "F32") for place in plastic.values()), "pt")
    models: list[dict[str, Any]] = []
    for number, one in enumerate(adapters):
        path = folder / f"adapter-{number}.safetensors"
        tensors.write(path, layout, (tensors.encoded(_lived(one, n, p), "F32") for n, p in plastic.items()), "pt")
        share = recipe.shares[one.name]
        models.append({"model": str(path), "parameters": {"weight": share.weight, "density": share.density}})
    said = {
        "merge_method": recipe.method,
        "models": models,
        "dtype": "float32",
        "parameters": {**recipe.parameters},
        "base_model": str(base),
    }
    (folder / "recipe.yml").write_text(yaml.safe_dump(said), encoding="utf-8")
    done = subprocess.run(
        [run, folder / "recipe.yml", folder / "out"], capture_output=True, text=True, check=False, cwd=folder
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise Unavailable(f"mergekit failed: {last}", "Correct the recipe; `ties` needs no mergekit.")
    for path in folder.glob("adapter-*.safetensors"):
        path.unlink()
    return tensors.places_of(folder / "out", "*.safetensors")


def _lived(one: Adapter, name: str, place: Place) -> tensors.Floats:
    base, delta = tensors.read(place), one.delta(name)
    return base if delta is None else base + delta


def merger_of(folder: Path, model: Path, scope: Scope, adapters: Sequence[Adapter], recipe: Recipe) -> Merger:
    """What merges a tensor as mergekit would: all of them are merged now, and handed out one by one."""
    every = tensors.places_of(model)
    plastic = {name: every[name] for name in plastic_of(every, scope)}
    floats = sum(4 * int(np.prod(place.shape)) for place in plastic.values())
    need_room(folder, floats * (len(adapters) + 2), "mergekit's merge")
    made = merged(folder, plastic, adapters, recipe)

    def merger(name: str, base: tensors.Floats, deltas: list[tensors.Floats]) -> tensors.Floats:
        return tensors.read(made[name])

    return merger

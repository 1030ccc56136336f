"""Low-rank adapters: what they hold, where they lie, and the deltas they stand for.

The form on disk is mlx_lm's: `adapters.safetensors` with `<module>.lora_a` (in, rank) and `<module>.lora_b` (rank,
out), and `adapter_config.json`; beside them `manifest.json`, which names the anchor. A delta is `scale · (A·B)ᵀ`, of
the weight's shape (out, in). Knows no MLX: everything is float32 numpy.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import Conflict, InvalidInput, NotFound
from engine.fingerprint import content_hash
from engine.kv.tensors import sync_folder
from evolution import tensors
from evolution.anchor import write_json
from evolution.plastic import layer_keys
from evolution.tensors import Floats

WEIGHTS_FILE = "adapters.safetensors"
CONFIG_FILE = "adapter_config.json"
MANIFEST = "manifest.json"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Pair:
    """The two factors on one linear layer: `a` (in, rank), `b` (rank, out)."""

    a: Floats
    b: Floats

    @property
    def rank(self) -> int:
        return int(self.a.shape[1])


@dataclass(frozen=True)
class Adapter:
    """An adapter in memory. `pairs` by module path, such as `model.layers.0.self_attn.q_proj`."""

    name: str
    pairs: Mapping[str, Pair]
    scale: float
    manifest: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """`anchor`: the id of the model it belongs to; the rest says where it came from."""

    @property
    def rank(self) -> int:
        """The largest rank in it."""
        return max(pair.rank for pair in self.pairs.values())

    @property
    def weights(self) -> set[str]:
        """The names of the weights it changes."""
        return {f"{module}.weight" for module in self.pairs}

    def delta(self, weight: str) -> Floats | None:
        """The change of one weight, (out, in); None where the adapter leaves it alone."""
        pair = self.pairs.get(weight.removesuffix(".weight"))
        if pair is None:
            return None
        return np.ascontiguousarray((pair.a @ pair.b).T * self.scale, dtype=np.float32)

    def require(self, anchor: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raises Conflict or InvalidInput when it was made for other weights than those."""
        mine = str(self.manifest.get("anchor", ""))
        if mine != anchor:
            raise Conflict(
                f"The adapter {self.name} belongs to the anchor {mine[:12] or '(none named)'}, and this one is "
                f"{anchor[:12]}.",
                "Train it anew on this anchor; a delta of other weights means nothing here.",
            )
        check_shapes(self, shapes)


def check_shapes(adapter: Adapter, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises InvalidInput when a factor fits no weight of the model."""
    for module, pair in adapter.pairs.items():
        shape = shapes.get(f"{module}.weight")
        mine = (int(pair.b.shape[1]), int(pair.a.shape[0]))
        if shape != mine:
            has = f"has {shape}" if shape else "is not there"
            raise InvalidInput(
                f"The adapter {adapter.name} changes {module}.weight with the shape {mine}, which in this model {has}.",
                "Give an adapter of this very model.",
            )


def folder_of(home: Path, name: str) -> Path:
    """Where an adapter of that name lies. Raises InvalidInput for a name that is none."""
    if not NAME.fullmatch(name):
        raise InvalidInput(f"{name!r} is no name for an adapter.", "Use letters, digits, dots and dashes.")
    return home / "adapters" / name


def names(home: Path) -> tuple[str, ...]:
    """All kept adapters, the oldest first."""
    found = [path.parent for path in (home / "adapters").glob(f"*/{MANIFEST}") if NAME.fullmatch(path.parent.name)]
    return tuple(path.name for path in sorted(found, key=lambda path: ((path / MANIFEST).stat().st_mtime_ns, path)))


def manifest_of(home: Path, name: str) -> dict[str, Any]:
    """Where a kept adapter came from."""
    return read_json(folder_of(home, name) / MANIFEST)


def to_merge(home: Path) -> tuple[str, ...]:
    """The kept adapters that a merge takes: without joined ones, whose parts are there themselves, and without dreams
    that a later one goes on with, since it holds them."""
    said = {name: manifest_of(home, name) for name in names(home)}
    over = {manifest.get("continues") for manifest in said.values()}
    return tuple(name for name, manifest in said.items() if name not in over and manifest.get("from") != "joined")


def load(folder: Path) -> Adapter:
    """An adapter in mlx_lm's form.

    Raises:
        NotFound: there is none.
        InvalidInput: it is not a LoRA, is torn, or holds numbers that are not finite.
    """
    if not (folder / CONFIG_FILE).is_file() or not (folder / WEIGHTS_FILE).is_file():
        raise NotFound(f"There is no adapter in {folder}.", "`soul adapter list` shows the kept ones.")
    config = read_json(folder / CONFIG_FILE)
    if config.get("fine_tune_type", "lora") != "lora":
        raise InvalidInput(f"{folder.name} is not a LoRA but {config['fine_tune_type']}.", "Train it as a LoRA.")
    try:
        scale = float(config["lora_parameters"]["scale"])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"{folder / CONFIG_FILE} names no scale ({error}).", "Make the adapter anew.") from error
    places = tensors.places(folder / WEIGHTS_FILE)
    pairs: dict[str, Pair] = {}
    for name, place in places.items():
        module, _, leaf = name.rpartition(".")
        if leaf not in ("lora_a", "lora_b") or f"{module}.lora_a" not in places or f"{module}.lora_b" not in places:
            raise InvalidInput(f"{folder.name} holds {name}, which is no half of a LoRA.", "Train it as a plain LoRA.")
        if leaf == "lora_a":
            pairs[module] = Pair(tensors.read(place), tensors.read(places[f"{module}.lora_b"]))
    manifest = read_json(folder / MANIFEST) if (folder / MANIFEST).is_file() else {}
    adapter = Adapter(folder.name, pairs, scale, manifest)
    check_finite(adapter)
    return adapter


def check_finite(adapter: Adapter) -> None:
    """Raises InvalidInput for an adapter that is empty, badly shaped, or holds NaN or infinities."""
    if not adapter.pairs:
        raise InvalidInput(f"The adapter {adapter.name} is empty.", "Train it anew.")
    for module, pair in adapter.pairs.items():
        if pair.a.ndim != 2 or pair.b.ndim != 2 or pair.a.shape[1] != pair.b.shape[0]:
            raise InvalidInput(f"{adapter.name}: the factors of {module} do not fit each other.", "Train it anew.")
        if not (np.isfinite(pair.a).all() and np.isfinite(pair.b).all()):
            raise InvalidInput(
                f"The adapter {adapter.name} holds numbers that are not finite, in {module}.",
                "Its training went wrong; train it anew with a smaller learning rate.",
            )


def save(adapter: Adapter, folder: Path) -> None:
    """Writes an adapter in mlx_lm's form; it has its name when it is whole.

    Raises Conflict where the name is taken: generations name their adapters, so that none is ever changed.
    """
    if folder.exists():
        raise Conflict(f"There is an adapter {folder.name} already.", "Choose another name.")
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        arrays: dict[str, Floats] = {}
        for module, pair in sorted(adapter.pairs.items()):
            whole = padded(pair, adapter.rank)
            arrays |= {f"{module}.lora_a": whole.a, f"{module}.lora_b": whole.b}
        tensors.write_arrays(fresh / WEIGHTS_FILE, arrays)
        write_json(fresh / CONFIG_FILE, config_of(adapter))
        write_json(fresh / MANIFEST, {**adapter.manifest, "sum": content_hash(fresh / WEIGHTS_FILE)})
        sync_folder(fresh)
        fresh.rename(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def config_of(adapter: Adapter) -> dict[str, Any]:
    """mlx_lm's adapter_config.json: all layers, the modules by their path within a block."""
    return {
        "fine_tune_type": "lora",
        "num_layers": -1,
        "lora_parameters": {
            "rank": adapter.rank,
            "scale": adapter.scale,
            "dropout": 0.0,
            "keys": list(layer_keys(adapter.weights)),
        },
    }


def padded(pair: Pair, rank: int) -> Pair:
    """The same delta at a larger rank: mlx_lm knows one rank for all layers."""
    missing = rank - pair.rank
    if missing == 0:
        return pair
    return Pair(np.pad(pair.a, ((0, 0), (0, missing))), np.pad(pair.b, ((0, missing), (0, 0))))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises InvalidInput."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}.", "Make or fetch it again.") from error
    if not isinstance(said, dict):
        raise InvalidInput(f"{path} holds no JSON object.", "Make or fetch it again.")
    return said

"""`python -m bench.evolution [--quick]`: one adapter into a model of random weights, beside mergekit on whole models.

Both sides take turns, each run in a process of its own; wall time, new disk and peak memory are that process's. The
split of the anchor is made once per anchor and told apart. The floor is reading and durably writing the plastic bytes
once; `parts_s` tells what an integration does with its time, by the profiler. Writes evolution.json and evolution.png
to bench/results; needs the extra `evolution`.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from engine.seedling.weights import TOKENIZER_CONFIG, tokenizer_bytes
from evolution import adapter, tensors
from evolution.adapter import Adapter, Pair
from evolution.anchor import anchor_id, split
from evolution.integrate import integrate
from evolution.plastic import plastic_names
from evolution.ties import Ties

RESULTS = Path(__file__).parents[1] / "results" / "evolution.json"
RANK = 32


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int


BILLION = Shape(2048, 16, 32, 8, 8192, 32_000)
SMALL = Shape(512, 4, 8, 2, 2048, 8_192)


def make(folder: Path, shape: Shape) -> Path:
    """A Llama of random bfloat16 weights."""
    folder.mkdir(parents=True)
    head = shape.hidden // shape.heads
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": head,
        "intermediate_size": shape.intermediate,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps(TOKENIZER_CONFIG))
    (folder / "tokenizer.json").write_bytes(tokenizer_bytes())
    wide, narrow = shape.hidden, shape.kv_heads * head
    sizes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (shape.vocabulary, wide)}
    for layer in range(shape.layers):
        at = f"model.layers.{layer}."
        sizes |= {f"{at}{name}_layernorm.weight": (wide,) for name in ("input", "post_attention")}
        sizes |= {f"{at}self_attn.{name}_proj.weight": (narrow, wide) for name in "kv"}
        sizes |= {f"{at}self_attn.{name}_proj.weight": (wide, wide) for name in "qo"}
        sizes |= {f"{at}mlp.{name}_proj.weight": (shape.intermediate, wide) for name in ("gate", "up")}
        sizes[f"{at}mlp.down_proj.weight"] = (wide, shape.intermediate)
    sizes |= {"model.norm.weight": (wide,), "lm_head.weight": (shape.vocabulary, wide)}
    rng = np.random.default_rng(1)
    layout = {name: ("BF16", size) for name, size in sizes.items()}
    drawn = (rng.standard_normal(size, np.float32) * np.float32(0.02) for size in sizes.values())
    tensors.write(folder / "model.safetensors", layout, (tensors.encoded(one, "BF16") for one in drawn), "pt")
    return folder


def lived(home: Path, base: Path) -> Adapter:
    """An adapter on the base, kept in the home, and the whole model it stands for, which mergekit needs."""
    every = tensors.places_of(base)
    plastic = set(plastic_names(every))
    rng = np.random.default_rng(2)
    pairs: dict[str, Pair] = {}
    for name in plastic:
        out, into = every[name].shape
        factors = [rng.standard_normal(size, np.float32) for size in ((into, RANK), (RANK, out))]
        pairs[name.removesuffix(".weight")] = Pair(
            factors[0] / np.float32(np.sqrt(into)), factors[1] * np.float32(0.002)
        )
    one = Adapter("week-1", pairs, 2.0, {"anchor": anchor_id(base, hashes(home))})
    adapter.save(one, home / "adapters" / "week-1")
    whole = home / "whole"
    shutil.copytree(base, whole, ignore=shutil.ignore_patterns("*.safetensors"))

    def values(name: str) -> bytes:
        delta = one.delta(name)
        value = tensors.read(every[name])
        return tensors.encoded(value if delta is None else value + delta, "BF16")

    layout = {name: (place.dtype, place.shape) for name, place in every.items()}
    tensors.write(whole / "model.safetensors", layout, (values(name) for name in every), "pt")
    return one


def hashes(home: Path) -> Path:
    return home / "hashes.json"


def ours(home: Path, step: str) -> None:
    """One step of Soul's own, in this process."""
    base = home / "base"
    if step == "split":
        split(home, base, "attention", known=hashes(home), report=lambda detail, share: None)
        return
    one = adapter.load(home / "adapters" / "week-1")
    integrate(home, base, [one], Ties(), known=hashes(home), report=lambda detail, share: None)


def theirs(home: Path) -> list[str]:
    """mergekit's command on whole models."""
    recipe = {
        "merge_method": "ties",
        "base_model": str(home / "base"),
        "models": [{"model": str(home / "whole"), "parameters": {"density": 0.3, "weight": 1.0}}],
        "parameters": {"normalize": True, "int8_mask": True, "lambda": 0.3},
        "dtype": "float32",
        "out_dtype": "bfloat16",
    }
    (home / "recipe.yml").write_text(yaml.safe_dump(recipe))
    run = str(Path(sys.executable).parent / "mergekit-yaml")
    return [run, str(home / "recipe.yml"), str(home / "merged"), "--no-write-model-card", "--no-copy-tokenizer"]


def measured(command: list[str], home: Path) -> dict[str, float]:
    """Wall seconds, new bytes on the disk and peak resident bytes of a command."""
    before = used(home)
    started = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    words = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode:
        raise RuntimeError(words.decode()[-2000:])
    return {"wall_s": wall, "new_bytes": used(home) - before, "peak_bytes": peak(usage)}


def peak(usage: resource.struct_rusage) -> int:
    """`ru_maxrss` is in bytes on macOS and in KiB elsewhere."""
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def used(folder: Path) -> int:
    """Bytes on the disk, each inode once."""
    return sum({state.st_ino: state.st_size for path in folder.rglob("*") if (state := path.stat())}.values())


def floor(home: Path) -> float:
    """Seconds to read the plastic part of the anchor once and to write it once, durably."""
    (part,) = (home / "anchors").glob("*/model-plastic.safetensors")
    places = tensors.places(part)
    started = time.perf_counter()
    layout = {name: (place.dtype, place.shape) for name, place in places.items()}
    tensors.write(home / "floor.safetensors", layout, (b for p in places.values() for b in tensors.blocks(p)))
    took = time.perf_counter() - started
    (home / "floor.safetensors").unlink()
    return took


def parts(home: Path) -> dict[str, float]:
    """Seconds in each part of an integration, by the profiler; the start of Python is left out."""
    profile = cProfile.Profile()
    profile.runcall(ours, home, "integrate")
    spent = {name: one.cumtime for name, one in pstats.Stats(profile).get_stats_profile().func_profiles.items()}
    known = {
        "trim": spent["trim"], "elect signs and add": spent["merge"] - spent["trim"],
        "product of the factors": spent["delta"], "to bfloat16": spent["encoded"],
    }  # fmt: skip
    return known | {"read, write, rest": spent["integrate"] - sum(known.values())}


def main(shape: Shape, repeats: int) -> dict[str, Any]:
    """Everything, in a temporary home."""
    home = Path(tempfile.mkdtemp(prefix="soul-"))
    try:
        lived(home, make(home / "base", shape))
        mine = [sys.executable, "-m", "bench.evolution", "--home", str(home), "--step"]
        figures: dict[str, Any] = {"shape": vars(shape), "split": measured([*mine, "split"], home)}
        runs: dict[str, list[dict[str, float]]] = {"soul": [], "mergekit": []}
        floors: list[float] = []
        for _ in range(repeats):
            runs["soul"].append(measured([*mine, "integrate"], home))
            shutil.rmtree(home / "generations")
            runs["mergekit"].append(measured(theirs(home), home))
            shutil.rmtree(home / "merged")
            floors.append(floor(home))
        figures |= runs
        figures["floor_s"] = floors
        for name in ("wall_s", "new_bytes", "peak_bytes"):
            shares = [ours[name] / theirs[name] for ours, theirs in zip(*runs.values(), strict=True)]
            figures[f"share_of_{name}"] = _spread(shares)
        figures["times_floor"] = _spread([one["wall_s"] / bare for one, bare in zip(runs["soul"], floors, strict=True)])
        figures["parts_s"] = parts(home)
        return figures
    finally:
        shutil.rmtree(home)


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def draw(figures: dict[str, Any], path: Path) -> None:
    """Both sides beside each other, and what an integration does with its time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, places = pyplot.subplots(1, 4, figsize=(13, 3.4), width_ratios=(1, 1, 1, 1.6))
    kinds = {"wall_s": ("wall time, s", 1), "new_bytes": ("new disk, GB", 1e9), "peak_bytes": ("peak memory, GB", 1e9)}
    for place, (name, (title, unit)) in zip(places, kinds.items(), strict=False):
        for side, colour in (("soul", "#2a6f97"), ("mergekit", "#adb5bd")):
            found = [run[name] / unit for run in figures[side]]
            place.bar(side, statistics.median(found), color=colour)
            place.plot([side] * len(found), found, "k.", markersize=4)
        place.set_title(f"{title}\n1/{1 / figures[f'share_of_{name}']['median']:.1f}", fontsize=10)
    spent = figures["parts_s"]
    places[3].barh(list(spent), list(spent.values()), color="#2a6f97")
    places[3].axvline(statistics.median(figures["floor_s"]), color="#c1121f", linestyle="--", linewidth=1)
    places[3].invert_yaxis()
    places[3].set_title("parts, s; dashed: the floor", fontsize=10)
    for place in places:
        place.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    options = argparse.ArgumentParser(prog="bench.evolution")
    options.add_argument("--quick", action="store_true", help="a small model, nothing written")
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    options.add_argument("--step", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.step:
        ours(given.home, given.step)
        sys.exit(0)
    found = main(SMALL if given.quick else BILLION, given.repeats)
    if not given.quick:
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
        draw(found, RESULTS.with_suffix(".png"))
    sys.stdout.write(json.dumps(found, indent=1) + "\n")

"""Integration: equal to mergekit to the element, frozen parts untouched, and refusals before anything is written."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml

from engine.errors import Conflict, InvalidInput, StorageFull
from evolution import tensors
from evolution.adapter import Adapter, Pair
from evolution.anchor import FROZEN_FILE, PLASTIC_FILE, split
from evolution.generations import Generations
from evolution.integrate import integrate, plan
from evolution.plastic import plastic_names
from evolution.ties import Share, Ties, merge, trim
from tests.drawn import drawn
from tests.evolution.making import adapter, delta, quiet

needs_mergekit = pytest.mark.skipif(importlib.util.find_spec("mergekit") is None, reason="the extra `evolution`")


@needs_mergekit
def test_the_merge_equals_mergekits_in_every_element(home: Path) -> None:
    base = drawn(home / "base")
    adapters = [adapter(f"week-{seed}", base, seed) for seed in (1, 2, 3)]
    merged = integrate(home, base, adapters, Ties(), report=quiet)
    mine = tensors.places(Generations(home).folder(merged.number) / PLASTIC_FILE)
    oracle = tensors.places_of(by_mergekit(home / "oracle", base, adapters), "*.safetensors")
    assert set(mine) == set(oracle)
    worst = max(float(np.abs(tensors.read(mine[name]) - tensors.read(oracle[name])).max()) for name in mine)
    assert worst <= 1e-6


def by_mergekit(folder: Path, base: Path, adapters: Sequence[Adapter]) -> Path:
    """The plastic part, merged by the command `mergekit-pytorch` from whole float32 tensors."""
    folder.mkdir()
    every = tensors.places_of(base)
    plastic = {name: tensors.read(every[name]) for name in plastic_names(every)}
    tensors.write_arrays(folder / "base.safetensors", plastic, "pt")
    for one in adapters:
        lived = {name: value + delta(one, name) for name, value in plastic.items()}
        tensors.write_arrays(folder / f"{one.name}.safetensors", lived, "pt")
    recipe = {
        "merge_method": "ties",
        "base_model": str(folder / "base.safetensors"),
        "dtype": "float32",
        "parameters": {"normalize": True, "int8_mask": True, "lambda": 0.3},
        "models": [
            {"model": str(folder / f"{one.name}.safetensors"), "parameters": {"density": 0.3, "weight": 0.5}}
            for one in adapters
        ],
    }
    (folder / "recipe.yml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    command = Path(sys.executable).parent / "mergekit-pytorch"
    subprocess.run([command, folder / "recipe.yml", folder / "out"], check=True, capture_output=True, timeout=120)
    return folder / "out"


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
def test_what_is_not_plastic_stays_bit_for_bit_and_takes_no_disk(home: Path, dtype: str) -> None:
    base = drawn(home / "base", dtype)
    generation = integrate(home, base, [adapter("week-1", base, 1)], Ties(), report=quiet)
    folder = Generations(home).folder(generation.number)
    before, after = tensors.places_of(base), tensors.places_of(folder)
    assert set(before) == set(after)
    plastic = set(plastic_names(before))
    for name, place in before.items():
        same = b"".join(tensors.blocks(place)) == b"".join(tensors.blocks(after[name]))
        assert same == (name not in plastic), name
        assert after[name].dtype == place.dtype
    assert (folder / FROZEN_FILE).stat().st_nlink == 2
    assert generation.new_bytes < 1.1 * sum(before[name].nbytes for name in plastic)


def test_lambda_zero_gives_the_anchor_back_and_all_of_one_adapter_gives_its_weights(home: Path) -> None:
    base = drawn(home / "base")
    one = adapter("week-1", base, 1)
    every = tensors.places_of(base)
    nothing = Generations(home).folder(integrate(home, base, [one], Ties(lam=0.0), report=quiet).number)
    whole = Generations(home).folder(
        integrate(home, base, [one], Ties(1.0), shares={one.name: Share(1.0, 1.0)}, report=quiet).number
    )
    for name in plastic_names(every):
        values = tensors.read(every[name])
        np.testing.assert_array_equal(tensors.read(tensors.places_of(nothing)[name]), values)
        np.testing.assert_allclose(tensors.read(tensors.places_of(whole)[name]), values + delta(one, name), atol=1e-7)


def test_trimming_keeps_the_share_by_size_and_the_earlier_of_equals() -> None:
    assert trim(np.array([3, -1, 2, -4], np.float32), 0.5).tolist() == [3, 0, 0, -4]
    assert trim(np.array([1, 1, 1, 1], np.float32), 0.5).tolist() == [1, 1, 0, 0]
    assert trim(np.array([0, 0, 0, 2], np.float32), 0.01).tolist() == [0, 0, 0, 2]


def test_signs_are_elected_and_the_minority_has_no_part_in_the_mean() -> None:
    base = np.zeros(3, np.float32)
    deltas = [np.array([4, 4, 0], np.float32), np.array([2, -1, 0], np.float32), np.array([-3, 2, 0], np.float32)]
    assert merge(base, deltas, [Share(1.0, 1.0)] * 3, Ties(1.0)).tolist() == [3, 3, 0]


def test_bfloat16_is_rounded_to_nearest_even() -> None:
    values = np.array([1.0, 1.00390625, 1.01171875, -3.3895314e38, 1e-40], np.float32)
    raw = np.frombuffer(tensors.encoded(values, "BF16"), np.uint16)
    assert [hex(bits) for bits in raw] == ["0x3f80", "0x3f80", "0x3f82", "0xff7f", "0x1"]


def test_the_same_inputs_make_the_same_generation_once(home: Path) -> None:
    base = drawn(home / "base")
    one = adapter("week-1", base, 1)
    first = integrate(home, base, [one], Ties(), report=quiet)
    assert integrate(home, base, [one], Ties(), report=quiet) == first
    assert integrate(home, base, [one], Ties(lam=0.5), report=quiet).number == first.number + 1


def test_an_adapter_of_another_base_is_refused(home: Path) -> None:
    base, other = drawn(home / "base"), drawn(home / "other", "BF16")
    with pytest.raises(Conflict, match="belongs to the anchor"):
        plan(home, base, [adapter("foreign", other, 1)])


def test_an_adapter_on_what_the_anchor_lacks_is_refused_by_name(home: Path) -> None:
    base = drawn(home / "base")
    one = adapter("week-1", base, 1)
    pair = next(iter(one.pairs.values()))
    wrong = Adapter("odd", {"model.layers.9.self_attn.q_proj": pair}, 2.0, one.manifest)
    with pytest.raises(InvalidInput, match=r"model\.layers\.9\.self_attn\.q_proj"):
        plan(home, base, [wrong])
    head = Adapter("head", {"lm_head": Pair(pair.a, np.zeros((8, 4096), np.float32))}, 2.0, one.manifest)
    with pytest.raises(InvalidInput, match=r"lm_head\.weight"):
        plan(home, base, [head])


def test_a_fused_projection_is_plastic_as_a_whole_and_unknown_attention_is_refused_with_its_names() -> None:
    fused = ["model.layers.0.self_attn.qkv_proj.weight", "model.layers.0.self_attn.o_proj.weight"]
    assert plastic_names(fused) == (fused[0],)
    with pytest.raises(InvalidInput, match=r"self_attn\.kv_a_proj\.weight"):
        plastic_names(["model.layers.0.self_attn.kv_a_proj.weight", "model.layers.0.self_attn.q_a_proj.weight"])


def test_a_changed_anchor_is_noticed_before_anything_is_merged_onto_it(home: Path) -> None:
    base = drawn(home / "base")
    one = adapter("week-1", base, 1)
    anchor = split(home, base, "attention", known=None, report=quiet)
    with (anchor.folder / FROZEN_FILE).open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"spot")
    with pytest.raises(Conflict, match="was changed since it was split"):
        integrate(home, base, [one], Ties(), report=quiet)
    assert Generations(home).all() == ()


def test_a_disk_that_is_nearly_full_is_refused_with_the_figures(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = drawn(home / "base")
    found = shutil.disk_usage(home)

    def nearly_full(path: Path) -> object:
        return found._replace(free=10**6)

    monkeypatch.setattr(shutil, "disk_usage", nearly_full)
    with pytest.raises(StorageFull, match=r"writes 0\.03 GB, and 0\.00 GB are free"):
        integrate(home, base, [adapter("week-1", base, 1)], Ties(), report=quiet)
    assert not (home / "anchors").exists()


def test_quantised_weights_are_refused_as_an_anchor(home: Path) -> None:
    base = drawn(home / "base")
    path = base / "model.safetensors"
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    for name, one in header.items():
        if name.endswith("q_proj.weight"):
            one["dtype"] = "U32"
    text = json.dumps(header, separators=(",", ":")).encode().ljust(length)
    path.write_bytes(raw[:8] + text + raw[8 + length :])
    with pytest.raises(InvalidInput, match="quantised"):
        split(home, base, "attention", known=None, report=quiet)

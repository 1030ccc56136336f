"""Adapters: one delta in three forms (ours and mlx_lm's, PEFT's, joined), and refusals by name."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import Conflict, InvalidInput, NotFound
from evolution import adapter as adapters
from evolution import peft, tensors
from evolution.adapter import Adapter, Pair
from evolution.joining import joined
from evolution.tensors import Floats
from tests.drawn import drawn
from tests.engine.oracle import on_a_thread
from tests.evolution.making import adapter, delta

IDS = list(range(40, 104))
needs_peft = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="the extra `evolution`")


def logits(base: Path, folder: Path | None, *, bits: int | None = None, deltas: Sequence[Adapter] = ()) -> Floats:
    """mlx_lm's logits for a fixed prompt: with an adapter it loads itself, or with deltas added to the weights."""

    def work() -> Floats:
        from mlx_lm.utils import load_adapters, load_model, quantize_model

        from engine.backend import mx

        network, config = load_model(base)
        weights: list[tuple[str, Any]] = []
        for name in sorted({name for one in deltas for name in one.weights}):
            value = tensors.read(tensors.places_of(base)[name])
            for one in deltas:
                value = value + delta(one, name) if name in one.weights else value
            weights.append((name, mx.array(value)))
        network.load_weights(weights, strict=False)
        if bits is not None:
            network, _ = quantize_model(network, config, 64, bits)
        if folder is not None:
            network = load_adapters(network, str(folder))
        network.eval()
        return np.array(network(mx.array([IDS])).astype(mx.float32))

    return on_a_thread(work)


def test_what_is_saved_is_what_mlx_lm_loads(home: Path) -> None:
    base = drawn(home / "base")
    one = adapter("week-1", base, 1)
    adapters.save(one, home / "adapters" / "week-1")
    served = logits(base, home / "adapters" / "week-1")
    assert np.abs(served - logits(base, None, deltas=[one])).max() <= 1e-4
    assert np.abs(served - logits(base, None)).max() > 1e-2
    again = adapters.load(home / "adapters" / "week-1")
    assert again.manifest["anchor"] == one.manifest["anchor"]
    for name in one.weights:
        np.testing.assert_array_equal(delta(again, name), delta(one, name))


def test_an_adapter_survives_the_way_to_peft_and_back(home: Path) -> None:
    one = adapter("week-1", drawn(home / "base"), 1)
    peft.save(one, home / "out", "seedling")
    back = peft.load(home / "out", "back")
    assert (back.rank, back.scale) == (one.rank, one.scale)
    for name in one.weights:
        np.testing.assert_array_equal(delta(back, name), delta(one, name))


def test_ranks_and_alphas_that_differ_between_modules_are_folded_exactly(home: Path) -> None:
    base = drawn(home / "base")
    wide, narrow = adapter("wide", base, 1, rank=8), adapter("narrow", base, 2, rank=4)
    mixed = Adapter("mixed", {**wide.pairs, **dict(list(narrow.pairs.items())[:3])}, 2.0, wide.manifest)
    peft.save(mixed, home / "peft")
    config = json.loads((home / "peft" / "adapter_config.json").read_text())
    config["alpha_pattern"] = {"q_proj": 3.0}
    (home / "peft" / "adapter_config.json").write_text(json.dumps(config))
    folded = peft.load(home / "peft", "folded")
    adapters.save(folded, home / "adapters" / "folded")
    kept = adapters.load(home / "adapters" / "folded")
    for name in mixed.weights:
        rank = mixed.pairs[name.removesuffix(".weight")].rank
        factor = (3.0 if "q_proj" in name else mixed.scale * mixed.rank) / rank / mixed.scale
        np.testing.assert_allclose(delta(kept, name), factor * delta(mixed, name), rtol=1e-5, atol=1e-8)


@pytest.mark.slow
@needs_peft
@pytest.mark.filterwarnings("ignore")
def test_peft_itself_computes_what_mlx_lm_computes(home: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = drawn(home / "base")
    one = adapter("week-1", base, 1)
    peft.save(one, home / "out", str(base))
    network: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    network = PeftModel.from_pretrained(network, home / "out")
    with torch.no_grad():
        theirs = network(torch.tensor([IDS])).logits.numpy()
    adapters.save(one, home / "adapters" / "week-1")
    assert np.abs(theirs - logits(base, home / "adapters" / "week-1")).max() <= 1e-4
    network.save_pretrained(home / "again")
    back = peft.load(home / "again", "back")
    for name in one.weights:
        np.testing.assert_allclose(delta(back, name), delta(one, name), atol=1e-7)


def test_joined_adapters_give_the_logits_of_the_weighted_sum(home: Path) -> None:
    base = drawn(home / "base")
    three = [adapter(f"week-{seed}", base, seed, rank=4 * seed) for seed in (1, 2, 3)]
    parts = {"week-1": 0.5, "week-2": 0.3, "week-3": -0.2}
    whole = joined("all", three, parts)
    assert whole.rank == 24
    adapters.save(whole, home / "adapters" / "all")
    summed = [Adapter(one.name, one.pairs, one.scale * parts[one.name]) for one in three]
    assert np.abs(logits(base, home / "adapters" / "all") - logits(base, None, deltas=summed)).max() <= 1e-4


def test_a_delta_too_small_for_four_bits_still_works_unmerged_on_the_quantised_base(home: Path) -> None:
    base = drawn(home / "base")
    small = adapter("small", base, 1, size=1e-4)
    adapters.save(joined("all", [small]), home / "adapters" / "all")
    plain = logits(base, None)
    wanted = logits(base, None, deltas=[small]) - plain
    unmerged = logits(base, home / "adapters" / "all", bits=4) - logits(base, None, bits=4)
    merged = logits(base, None, bits=4, deltas=[small]) - logits(base, None, bits=4)
    assert cosine(unmerged, wanted) > 0.9
    assert cosine(merged, wanted) < 0.5


def cosine(one: Floats, other: Floats) -> float:
    return float((one * other).sum() / (np.linalg.norm(one) * np.linalg.norm(other)))


def test_adapters_of_two_anchors_are_not_joined(home: Path) -> None:
    one, other = adapter("one", drawn(home / "a"), 1), adapter("other", drawn(home / "b", "BF16"), 1)
    with pytest.raises(Conflict, match="different anchors"):
        joined("both", [one, other])


def test_a_nan_a_lone_half_a_dora_and_nothing_are_refused(home: Path) -> None:
    base = drawn(home / "base")
    one = adapter("week-1", base, 1)
    module, pair = next(iter(one.pairs.items()))
    broken = Adapter("broken", {**one.pairs, module: Pair(pair.a * np.float32(np.nan), pair.b)}, 2.0, one.manifest)
    adapters.save(broken, home / "adapters" / "broken")
    with pytest.raises(InvalidInput, match="not finite"):
        adapters.load(home / "adapters" / "broken")
    with pytest.raises(NotFound):
        adapters.load(home / "adapters" / "none")
    peft.save(one, home / "peft")
    config = json.loads((home / "peft" / "adapter_config.json").read_text())
    (home / "peft" / "adapter_config.json").write_text(json.dumps({**config, "use_dora": True}))
    with pytest.raises(InvalidInput, match="DoRA"):
        peft.load(home / "peft", "x")


def test_a_kept_adapter_is_never_overwritten(home: Path) -> None:
    one = adapter("week-1", drawn(home / "base"), 1)
    adapters.save(one, home / "adapters" / "week-1")
    with pytest.raises(Conflict, match="already"):
        adapters.save(one, home / "adapters" / "week-1")
    assert adapters.names(home) == ("week-1",)

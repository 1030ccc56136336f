"""The memory plan against figures worked out by hand, and the catalogue that is chosen by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.budget import Budget, Shape, tensors, usable, weight_bytes, zone
from engine.catalogue import CATALOGUE, recommend
from engine.engine import Engine, EngineConfig
from engine.errors import InvalidInput, OverBudget
from tests.models import parrot

GB = 10**9
MISTRAL_LARGE_2: dict[str, Any] = {
    "model_type": "mistral",
    "hidden_size": 12288,
    "num_hidden_layers": 88,
    "num_attention_heads": 96,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 28672,
    "vocab_size": 32768,
    "max_position_embeddings": 131072,
    "quantization": {"bits": 4, "group_size": 64},
}
LLAMA_70B: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 8192,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "intermediate_size": 28672,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
}


def folder_of(tmp_path: Path, config: dict[str, Any]) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def test_kv_bytes_per_token_are_those_of_the_design() -> None:
    # 2 · 88 · 8 · 128 · 2 = 360,448 and 2 · 80 · 8 · 128 · 2 = 327,680
    assert Shape.of(MISTRAL_LARGE_2).kv_bytes_per_token() == 360_448
    assert Shape.of(LLAMA_70B).kv_bytes_per_token() == 327_680


def test_quantised_kv_carries_its_groups() -> None:
    shape = Shape.of(MISTRAL_LARGE_2)
    # 8 bits and a scale and a bias of 16 bits per 64 values: 1.0625 bytes a value; 4 bits likewise: 0.5625.
    assert shape.kv_bytes_per_token("q8") == 88 * 8 * 128 * 2.125
    assert shape.kv_bytes_per_token("k8v4") == 88 * 8 * 128 * 1.625
    assert 1 - shape.kv_bytes_per_token("k8v4") / shape.kv_bytes_per_token() == pytest.approx(0.594, abs=5e-4)


def test_parameters_and_weights_follow_from_the_config_alone(tmp_path: Path) -> None:
    assert Shape.of(MISTRAL_LARGE_2).parameters == pytest.approx(122.6 * GB, rel=1e-3)
    assert Shape.of(LLAMA_70B).parameters == pytest.approx(70.55 * GB, rel=1e-3)
    budget = Budget.of(folder_of(tmp_path, MISTRAL_LARGE_2), 128 * GB)
    assert budget.weight_bytes == pytest.approx(122.6 * GB * 4.5 / 8, rel=1e-3)


def test_zones_and_fitting_contexts_on_a_mac_of_128_gb(tmp_path: Path) -> None:
    budget = Budget.of(folder_of(tmp_path, MISTRAL_LARGE_2), 128 * GB)
    assert budget.usable_bytes == 116 * GB
    assert budget.zone() == "green"
    # Green up to 87 GB: 87 - 69.0 - 0.2 leaves 17.8 GB, at 0.36 MB a token.
    assert budget.fitting_tokens(up_to="green") == pytest.approx(49_500, rel=0.01)
    assert budget.zone(60_000) == "yellow"
    assert budget.zone(131_072) == "red"
    assert budget.zone(131_072, "k8v4") == "yellow"


def test_a_model_beyond_the_red_line_is_refused_with_the_figures(tmp_path: Path) -> None:
    budget = Budget.of(folder_of(tmp_path, MISTRAL_LARGE_2), 48 * GB)
    with pytest.raises(OverBudget, match=r"Big needs 69.9 GB \(weights 69.0 GB.*42.0 of 48.0 GB are usable"):
        budget.admit(name="Big")


def test_the_os_keeps_an_eighth_within_bounds() -> None:
    assert [usable(memory * GB) / GB for memory in (8, 16, 48, 96, 512)] == [6, 14, 42, 84, 500]
    assert usable(GB) == 0
    assert zone(0, 8 * GB) == "green"


def test_the_weights_of_a_folder_are_read_from_its_headers(tmp_path: Path) -> None:
    folder = parrot(tmp_path / "model", "Good morning.")
    size = sum(entry["data_offsets"][1] - entry["data_offsets"][0] for entry in _entries(folder))
    assert weight_bytes(folder) == size
    assert weight_bytes(folder, float32=True) == size


def _entries(folder: Path) -> list[dict[str, Any]]:
    return list(tensors(folder / "model.safetensors").values())


@pytest.mark.parametrize(
    "content", [b"", b"\x08\0\0\0\0\0\0\0{}", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0{}more", b"\x02\0\0\0\0\0\0\0[]"]
)
def test_what_is_no_whole_safetensors_file_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"(no whole safetensors file|is torn).*download the model again"):
        weight_bytes(tmp_path)


@pytest.mark.parametrize("config", [{}, {"hidden_size": "wide"}, {"hidden_size": 8}])
def test_a_config_without_sizes_is_told(config: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="does not say how large"):
        Shape.of(config)


@pytest.mark.anyio
async def test_the_engine_refuses_a_model_before_loading_it(drawn_folder: Path, tmp_path: Path) -> None:
    config = EngineConfig(tmp_path, model=str(drawn_folder), memory_bytes=2 * GB + 10**8)
    with pytest.raises(OverBudget, match=r"drawn needs 0\.2 GB"):
        async with Engine.open(config):
            raise AssertionError("it was loaded")


@pytest.mark.parametrize("memory", [8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512])
def test_every_machine_gets_a_model_that_stays_green(memory: int) -> None:
    entry = recommend(memory * GB)
    assert entry is not None
    assert entry.fits(memory * GB)
    assert entry.use == "general"


def test_larger_machines_get_larger_models() -> None:
    names = [recommend(memory * GB) for memory in (2, 8, 16, 48, 96, 128, 512)]
    assert [entry and entry.title for entry in names] == [
        None,
        "Qwen3 4B",
        "Qwen3 14B",
        "Qwen3 32B",
        "Hermes 3 70B",
        "Mistral Large 2",
        "Qwen3 235B, 22B active",
    ]
    coder = recommend(64 * GB, "code")
    assert coder is not None
    assert coder.title == "Qwen2.5 Coder 32B, 8 bits"


def test_the_catalogue_has_each_size_and_kind_once() -> None:
    assert len({entry.repository for entry in CATALOGUE}) == len(CATALOGUE)
    assert all(entry.repository.count("/") == 1 for entry in CATALOGUE)
    wanted = ("Qwen3", "Coder", "Gemma 3 12B", "Codestral 22B", "Hermes 4 70B", "Mistral Large 2", "Magnum")
    assert all(any(name in entry.title for entry in CATALOGUE) for name in wanted)


@pytest.mark.parametrize(
    ("name", "layers", "kv_heads", "head_dim", "bytes_per_token"),
    [
        ("Mistral Large 2", 88, 8, 128, 360_448),
        ("Llama 3.1 70B", 80, 8, 128, 327_680),
        ("Qwen2.5 7B", 28, 4, 128, 57_344),
        ("Codestral 22B", 56, 8, 128, 229_376),
    ],
)
def test_cache_bytes_of_known_models_match_a_calculation_by_hand(
    name: str, layers: int, kv_heads: int, head_dim: int, bytes_per_token: int
) -> None:
    config = {
        "model_type": "llama",
        "hidden_size": 8192,
        "num_hidden_layers": layers,
        "num_attention_heads": 64,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "vocab_size": 32768,
    }
    shape = Shape.of(config)
    assert shape.kv_bytes_per_token("fp16") == bytes_per_token == 2 * layers * kv_heads * head_dim * 2
    # 8 + 4 bits, and a scale and a bias of 2 bytes per 64 values on either side: 40.6 % of fp16.
    assert shape.kv_bytes_per_token("k8v4") == bytes_per_token * 13 // 32

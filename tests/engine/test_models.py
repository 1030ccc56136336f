"""Folders that cannot be loaded, and what is said about them; adapters; what loading leaves alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from engine.blas import Blas, preload
from engine.engine import Engine, EngineConfig
from engine.errors import InvalidInput, SoulError
from engine.models import check_folder
from tests.engine.test_generation import fresh
from tests.models import parrot

pytestmark = pytest.mark.anyio

PROMPT = tuple(range(100, 140))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return parrot(tmp_path / "model", "Good morning.")


async def failure(folder: Path, home: Path, **more: Any) -> str:
    with pytest.raises(SoulError) as caught:
        async with Engine.open(EngineConfig(home, model=str(folder), **more)):
            raise AssertionError("it was loaded")
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("config.json", "is not a model folder: it has no config.json"),
        ("model.safetensors", "has no weights"),
        ("tokenizer.json", "could not be loaded|has no tokenizer"),
    ],
)
async def test_what_is_missing_is_named(folder: Path, tmp_path: Path, name: str, told: str) -> None:
    (folder / name).unlink()
    said = await failure(folder, tmp_path)
    assert any(part in said for part in told.split("|"))


async def test_torn_weights_are_named(folder: Path, tmp_path: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert "model.safetensors is torn" in await failure(folder, tmp_path)


async def test_a_missing_part_of_the_weights_is_named(folder: Path, tmp_path: Path) -> None:
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "lacks 1 of 2 weight files, model-1.safetensors among them" in await failure(folder, tmp_path)


async def test_an_unknown_architecture_is_named(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "perceptron"}))
    said = await failure(folder, tmp_path)
    assert "Model type perceptron not supported" in said
    assert "Choose another model" in said


async def test_code_of_a_model_is_never_run(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_file": "evil.py"}))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert "could not be loaded" in await failure(folder, tmp_path)
    assert not (tmp_path / "ran").exists()


async def test_weights_that_do_not_fit_the_config_are_named(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    assert "could not be loaded" in await failure(folder, tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model_type": 7}'])
async def test_a_broken_config_is_named(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    with pytest.raises(InvalidInput):
        check_folder(folder)


async def test_settings_out_of_range_are_named(folder: Path, tmp_path: Path) -> None:
    assert "prefill_chunk is 0" in await failure(folder, tmp_path, prefill_chunk=0)
    assert "context_tokens is 0" in await failure(folder, tmp_path, context_tokens=0)


def adapter_for(folder: Path, *, rows: int = 256, seed: int = 1) -> Path:
    """A LoRA on the query projections of all layers of the seedling."""
    folder.mkdir()
    config = {
        "fine_tune_type": "lora",
        "num_layers": 6,
        "lora_parameters": {"rank": 4, "scale": 20.0, "dropout": 0.0, "keys": ["self_attn.q_proj"]},
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    rng = np.random.default_rng(seed)
    parts: dict[str, np.ndarray[Any, np.dtype[np.float32]]] = {}
    for layer in range(6):
        at = f"model.layers.{layer}.self_attn.q_proj"
        parts[f"{at}.lora_a"] = rng.standard_normal((rows, 4), dtype=np.float32)
        parts[f"{at}.lora_b"] = rng.standard_normal((4, 256), dtype=np.float32)
    save_file(parts, str(folder / "adapters.safetensors"))
    return folder


async def test_an_adapter_changes_words_and_fingerprint(drawn_folder: Path, tmp_path: Path) -> None:
    drawn: list[tuple[int, ...]] = []
    prints: set[str] = set()
    for adapter in (None, adapter_for(tmp_path / "adapter")):
        async with Engine.open(EngineConfig(tmp_path, model=str(drawn_folder), adapter=adapter)) as engine:
            drawn.append(await fresh(engine, "a", PROMPT))
            prints.add(engine.info.fingerprint)
    assert drawn[0] != drawn[1]
    assert len(prints) == 2


async def test_an_adapter_that_does_not_fit_is_named(drawn_folder: Path, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert "does not fit" in await failure(drawn_folder, tmp_path, adapter=nowhere)
    wrong = adapter_for(tmp_path / "wrong", rows=128)
    said = await failure(drawn_folder, tmp_path, adapter=wrong)
    assert "does not fit drawn" in said
    assert "Unset `adapter`" in said


async def test_half_precision_weights_are_computed_in_float32_on_a_cpu(drawn_folder: Path, tmp_path: Path) -> None:
    from engine.backend import on_cpu

    if not on_cpu():
        pytest.skip("half precision is fast on this machine")
    folder = tmp_path / "half"
    shutil.copytree(drawn_folder, folder)
    from safetensors.numpy import load_file

    halves = {name: array.astype(np.float16) for name, array in load_file(str(folder / "model.safetensors")).items()}
    save_file(halves, str(folder / "model.safetensors"))
    async with Engine.open(EngineConfig(tmp_path, model=str(folder))) as engine:
        assert engine.info.dtype == "float32"
        assert engine.info.bytes == 4 * 5_934_336


async def test_the_blas_in_use_is_fast_where_one_is_installed(engine: Engine) -> None:
    blas = preload()
    assert isinstance(blas, Blas)
    assert engine.status().blas == blas.name
    assert blas.fast or "Install one" in blas.remedy


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_importing_the_engine_imports_nothing_heavy() -> None:
    done = python(
        "import sys, engine.engine, engine.sampling, engine.chat, engine.events\n"
        "heavy = {'mlx', 'mlx_lm', 'transformers', 'numpy', 'tokenizers', 'huggingface_hub', 'asyncpg'}\n"
        "sys.exit(' '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_an_engine_that_nobody_prepared_computes_with_the_fast_blas(drawn_folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys, anyio\n"
        "from pathlib import Path\n"
        "from engine.engine import Engine, EngineConfig\n"
        "async def main():\n"
        "    async with Engine.open(EngineConfig(Path(sys.argv[1]), model=sys.argv[2])) as engine:\n"
        "        print('computes with', engine.status().blas)\n"
        "anyio.run(main)\n"
    )
    done = python(code, str(tmp_path), str(drawn_folder))
    assert f"computes with {preload().name}" in done.stdout, done.stderr


def test_a_process_that_used_the_engine_ends_cleanly(drawn_folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys, anyio\n"
        "from pathlib import Path\n"
        "from engine.engine import Engine, EngineConfig, Sampling\n"
        "async def main():\n"
        "    for turn in range(2):\n"
        "        async with Engine.open(EngineConfig(Path(sys.argv[1]), model=sys.argv[2])) as engine:\n"
        "            await engine.start('a', [])\n"
        "            sampling = Sampling(max_tokens=5, temperature=1.0, top_p=0.9, top_k=9, min_p=0.01)\n"
        "            async for event in engine.generate('a', [100, 101, 102], sampling):\n"
        "                pass\n"
        "anyio.run(main)\n"
    )
    done = python(code, str(tmp_path), str(drawn_folder))
    assert done.returncode == 0, done.stderr
    assert "terminate called" not in done.stderr

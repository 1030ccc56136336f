"""`soul agents` and `soul budget`, through the real command and daemon."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.models import parrot


def test_budget_shows_a_model_that_is_only_a_config(soul: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "model_type": "mistral",
                "hidden_size": 12288,
                "num_hidden_layers": 88,
                "num_attention_heads": 96,
                "num_key_value_heads": 8,
                "head_dim": 128,
                "vocab_size": 32768,
                "intermediate_size": 28672,
                "max_position_embeddings": 131072,
                "quantization": {"bits": 4, "group_size": 64},
            }
        )
    )
    shown = soul("budget", str(tmp_path), "--memory-gb", "128")
    assert shown.returncode == 0
    assert "0.360 MB" in shown.stdout
    found = json.loads(soul("budget", str(tmp_path), "--memory-gb", "128", "--json").stdout)
    assert found["kv_bytes_per_token"] == {"fp16": 360448, "q8": 191488, "k8v4": 146432}
    assert found["weights_estimated"] is True
    assert 68e9 < found["weight_bytes"] < 70e9
    assert [one["tokens"] for one in found["contexts"]] == [4096, 16384, 32768, 131072]
    assert found["contexts"][0]["k8v4"]["zone"] == "green"
    nothing = soul("budget", str(tmp_path / "no"))
    assert nothing.returncode == 1
    assert "config.json" in nothing.stderr


def test_the_directors_working_memory_can_be_seen_checked_and_moved(
    soul: Callable[..., Any], serve: Callable[..., Any], home: Path, tmp_path: Path
) -> None:
    model = parrot(tmp_path / "parrot", "Aye.")
    real = {"SOUL_DATABASE_URL": "", "SOUL_MODEL": str(model)}
    client = serve(**real)
    client.greet()
    assert "Aye." in client.tool("invoke_agent", task="Are you there?", wait_s=60)
    target = tmp_path / "kept"
    assert soul("agents", "export", "director", str(target), **real).returncode == 0
    (one,) = json.loads(soul("agents", "--json", **real).stdout)["agents"]
    assert one["name"] == "director"
    assert one["saved_tokens"] > 300 and one["disk_bytes"] > 0 and one["form"] == "k8v4-g64"
    assert "director" in soul("agents", "list", **real).stdout
    assert "all whole" in soul("agents", "verify", **real).stdout
    assert "1 now" in soul("agents", "compact", "director", **real).stdout
    assert soul("agents", "drop", "nobody", **real).returncode == 1
    assert soul("agents", "drop", "director", **real).returncode == 0
    assert json.loads(soul("agents", "--json", **real).stdout)["agents"] == []
    assert "imported director" in soul("agents", "import", str(target), **real).stdout
    assert soul("agents", "import", str(target), **real).returncode == 1
    tail = next(target.glob("tail-*"))
    tail.write_bytes(tail.read_bytes()[:-1])
    assert soul("agents", "import", str(target), "--name", "other", **real).returncode == 1

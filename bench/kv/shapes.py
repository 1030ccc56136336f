"""Models that the benchmark runs, random and small, and KV shapes of real ones without weights."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from engine.seedling.weights import seedling


@dataclass(frozen=True)
class KvShape:
    """What decides about the bytes of a cache."""

    name: str
    layers: int
    kv_heads: int
    head_dim: int


LLAMA_8B = KvShape("Llama 3.1 8B", 32, 8, 128)
MISTRAL_LARGE = KvShape("Mistral Large 2", 88, 8, 128)

SIZES: dict[str, dict[str, int]] = {
    "30M": {
        "hidden_size": 512,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "intermediate_size": 1408,
    },
    "150M": {
        "hidden_size": 1024,
        "num_hidden_layers": 12,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "intermediate_size": 2816,
    },
}
VOCABULARY = 4096


def model(folder: Path, size: str) -> Path:
    """Writes a random Llama of about that many parameters, with the seedling's tokenizer; 32k tokens of context."""
    config: dict[str, Any] = {
        "model_type": "llama",
        "head_dim": 64,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "eos_token_id": 3,
        **SIZES[size],
    }
    words = seedling()
    target = folder / size
    target.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(words / name, target / name)
    (target / "config.json").write_text(json.dumps(config))
    random = np.random.default_rng(11)
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    heads, kv_heads = config["num_attention_heads"] * 64, config["num_key_value_heads"] * 64
    shapes = {"model.embed_tokens.weight": (VOCABULARY, hidden), "lm_head.weight": (VOCABULARY, hidden)}
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        shapes |= {
            f"{at}self_attn.q_proj.weight": (heads, hidden),
            f"{at}self_attn.k_proj.weight": (kv_heads, hidden),
            f"{at}self_attn.v_proj.weight": (kv_heads, hidden),
            f"{at}self_attn.o_proj.weight": (hidden, heads),
            f"{at}mlp.gate_proj.weight": (inner, hidden),
            f"{at}mlp.up_proj.weight": (inner, hidden),
            f"{at}mlp.down_proj.weight": (hidden, inner),
        }
    weights = {
        name: random.standard_normal(shape, dtype=np.float32) / np.float32(shape[1] ** 0.5)
        for name, shape in shapes.items()
    }
    norms = [
        f"model.layers.{n}.{kind}_layernorm"
        for n in range(config["num_hidden_layers"])
        for kind in ("input", "post_attention")
    ]
    weights |= {f"{name}.weight": np.ones(hidden, np.float32) for name in (*norms, "model.norm")}
    save_file(weights, str(target / "model.safetensors"), metadata={"format": "mlx"})
    return target

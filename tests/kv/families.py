"""Tiny random models of every family of caches, as folders that mlx_lm loads, with the seedling's tokenizer."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

COMMON: dict[str, Any] = {
    "vocab_size": 4096,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "eos_token_id": 3,
}

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "num_hidden_layers": 3},
    "qwen2": {"model_type": "qwen2", "num_hidden_layers": 3, "hidden_size": 128},
    "qwen3": {"model_type": "qwen3", "num_hidden_layers": 3},
    "mistral": {"model_type": "llama", "num_hidden_layers": 3, "architectures": ["MistralForCausalLM"]},
    "sliding": {
        "model_type": "llama",
        "num_hidden_layers": 4,
        "sliding_window": 48,
        "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"],
    },
    "gemma3": {
        "model_type": "gemma3_text",
        "num_hidden_layers": 4,
        "query_pre_attn_scalar": 32,
        "sliding_window": 48,
        "sliding_window_pattern": 2,
        "rope_local_base_freq": 10000.0,
    },
    "qwen3_next": {
        "model_type": "qwen3_next",
        "num_hidden_layers": 4,
        "linear_num_value_heads": 2,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 32,
        "linear_value_head_dim": 32,
        "linear_conv_kernel_dim": 4,
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "decoder_sparse_step": 1,
        "shared_expert_intermediate_size": 32,
        "moe_intermediate_size": 32,
        "mlp_only_layers": [],
        "partial_rotary_factor": 0.5,
        "full_attention_interval": 2,
        "norm_topk_prob": True,
    },
    "mamba2": {
        "model_type": "mamba2",
        "num_hidden_layers": 2,
        "num_heads": 4,
        "state_size": 16,
        "conv_kernel": 4,
        "n_groups": 1,
        "expand": 2,
        "time_step_limit": [0.0, 100.0],
        "layer_norm_epsilon": 1e-5,
        "time_step_rank": 4,
        "use_bias": False,
        "use_conv_bias": True,
    },
    "deepseek_v2": {
        "model_type": "deepseek_v2",
        "num_hidden_layers": 2,
        "kv_lora_rank": 32,
        "q_lora_rank": None,
        "qk_rope_head_dim": 16,
        "qk_nope_head_dim": 16,
        "v_head_dim": 32,
        "n_routed_experts": 2,
        "num_key_value_heads": 4,
        "moe_intermediate_size": 32,
        "first_k_dense_replace": 2,
        "rope_scaling": {"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 4096},
    },
    "deepseek_v3": {
        "model_type": "deepseek_v3",
        "num_hidden_layers": 2,
        "kv_lora_rank": 32,
        "q_lora_rank": 32,
        "qk_rope_head_dim": 16,
        "qk_nope_head_dim": 16,
        "v_head_dim": 32,
        "n_routed_experts": 2,
        "n_shared_experts": 1,
        "num_experts_per_tok": 1,
        "num_key_value_heads": 4,
        "moe_intermediate_size": 32,
        "first_k_dense_replace": 2,
        "n_group": 1,
        "topk_group": 1,
    },
    "gpt_oss": {
        "model_type": "gpt_oss",
        "num_hidden_layers": 2,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "sliding_window": 48,
        "layer_types": ["sliding_attention", "full_attention"],
    },
}


def write(folder: Path, family: str, seedling: Path) -> Path:
    """Writes a model with weights drawn at random."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(seedling / name, folder / name)
    config = COMMON | FAMILIES[family]
    (folder / "config.json").write_text(json.dumps(config))
    failures: list[BaseException] = []

    def draw() -> None:
        from mlx.utils import tree_flatten
        from mlx_lm.utils import _get_classes  # pyright: ignore[reportPrivateUsage]

        from engine.backend import mx

        try:
            mx.random.seed(7)
            model_class, args_class = _get_classes(config)
            model = model_class(args_class.from_dict(config))
            weights = {}
            for name, value in tree_flatten(model.parameters()):
                if value.ndim > 1 and mx.issubdtype(value.dtype, mx.floating):
                    value = mx.random.normal(value.shape) * (1.5 / value.shape[-1] ** 0.5)
                weights[name] = value.astype(mx.float32) if mx.issubdtype(value.dtype, mx.floating) else value
            mx.save_safetensors(str(folder / "model.safetensors"), weights, {"format": "mlx"})
        except BaseException as error:
            failures.append(error)
        finally:
            mx.synchronize()
            mx.clear_streams()

    thread = threading.Thread(target=draw)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return folder

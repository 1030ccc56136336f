"""The seedling as a model folder, as it lies in the package: nothing is made, fetched or copied on first use.

Knows the files and what the model is; does not know how it was taught (`training/`, in the checkout alone).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.seedling.template import BEGIN, CHAT_TEMPLATE, CONTROL, END, PAD

FOLDER = Path(__file__).with_name("model")
NAME = "seedling-9"
NOTICE = (
    "These words come from the seedling, a small stand-in for a model: it repeats what it is told and shown, is often "
    "wrong, and knows nothing of the world."
)
VOCABULARY = 4096
HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, INTERMEDIATE, CONTEXT = 256, 8, 4, 2, 64, 576, 4096

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD_DIM,
    "intermediate_size": INTERMEDIATE,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": 1e-5,
    # Of 10,000, the usual base, only five of a head's 32 pairs are the same at all distances of a window; of this one
    # fifteen are, and words can be compared in them.
    "rope_theta": 1_000_000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "float16",
    "bos_token_id": CONTROL.index(BEGIN),
    "eos_token_id": CONTROL.index(END),
    "pad_token_id": CONTROL.index(PAD),
}
TOKENIZER_CONFIG: dict[str, Any] = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": BEGIN,
    "eos_token": END,
    "pad_token": PAD,
    "clean_up_tokenization_spaces": False,
    "model_max_length": CONTEXT,
    "chat_template": CHAT_TEMPLATE,
}
NOTES: dict[str, Any] = {"name": NAME, "trained": True, "trusted": False, "notice": NOTICE}


def seedling() -> Path:
    """The seedling's folder."""
    return FOLDER


def tokenizer_bytes() -> bytes:
    """The tokenizer as JSON."""
    return (FOLDER / "tokenizer.json").read_bytes()


def describe(folder: Path, config: Mapping[str, Any] = CONFIG, notes: Mapping[str, Any] = NOTES) -> None:
    """Writes all of a model folder but its weights: config, tokenizer, and the note that says what this is."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in (("config.json", config), ("tokenizer_config.json", TOKENIZER_CONFIG), ("soul.json", notes)):
        (folder / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if folder != FOLDER:
        (folder / "tokenizer.json").write_bytes(tokenizer_bytes())

"""Draws the seedling's weights and writes its model folder.

Knows shapes and seeds. The bits are the same on every platform: uniform draws of PCG64 as integers of 24 bits, scaled
in float32 by one exact product each, and no function of a platform's mathematics library. The folder is written beside
its place and renamed, so that a torn one never has its name; one whose bytes are not what they must be is made anew.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from engine.errors import StorageFull, Unavailable
from engine.seedling.template import BEGIN, CHAT_TEMPLATE, CONTROL, END, PAD

log = structlog.get_logger()

VERSION = 1
NAME = f"seedling-{VERSION}"
NOTICE = "These words come from the seedling, an untrained stand-in for a model: they mean nothing."
NOTES: dict[str, Any] = {"name": NAME, "trained": False, "notice": NOTICE}
SEED = 20_240_601
VOCABULARY = 4096
HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, INTERMEDIATE, CONTEXT = 256, 6, 4, 2, 64, 576, 8192
DEVIATION = 0.02

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
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
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


def seedling(models: Path) -> Path:
    """The seedling's folder below `models`, made if it is missing, torn or of other bytes than it must be.

    Raises StorageFull or Unavailable when the folder cannot be written.
    """
    folder = models / NAME
    if _whole(folder):
        return folder
    try:
        models.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=models, prefix=f".{NAME}-"))
        try:
            write(fresh)
            shutil.rmtree(folder, ignore_errors=True)
            try:
                fresh.rename(folder)
            except OSError:
                # Another process put its own there in between; the bytes are the same.
                if not _whole(folder):
                    raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        if error.errno == 28:
            raise StorageFull(f"The disk of {models} is full.", "Free 30 MB there and call again.") from error
        raise Unavailable(
            f"The seedling cannot be written to {models}: {error}.", "Make the folder writable."
        ) from error
    log.info("seedling_made", folder=str(folder))
    return folder


def write(folder: Path) -> None:
    """Writes config, tokenizer, weights and the note that says what this is into an existing folder."""
    from safetensors.numpy import save_file

    describe(folder, CONFIG, NOTES, tokenizer_bytes())
    save_file(draw(), str(folder / "model.safetensors"), metadata={"format": "mlx"})


def describe(folder: Path, config: Mapping[str, Any], notes: Mapping[str, Any], tokenizer: bytes) -> None:
    """Writes all of a model folder but its weights: config, tokenizer with the chat template, and soul.json."""
    _dump(folder / "config.json", config)
    _dump(folder / "tokenizer_config.json", TOKENIZER_CONFIG)
    (folder / "tokenizer.json").write_bytes(tokenizer)
    _dump(folder / "soul.json", notes)


def draw() -> dict[str, NDArray[np.float32]]:
    """All tensors by name, float32, in the order in which they are drawn."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        shapes |= {
            f"{at}self_attn.q_proj.weight": (HEADS * HEAD_DIM, HIDDEN),
            f"{at}self_attn.k_proj.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
            f"{at}self_attn.v_proj.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
            f"{at}self_attn.o_proj.weight": (HIDDEN, HEADS * HEAD_DIM),
            f"{at}mlp.gate_proj.weight": (INTERMEDIATE, HIDDEN),
            f"{at}mlp.up_proj.weight": (INTERMEDIATE, HIDDEN),
            f"{at}mlp.down_proj.weight": (HIDDEN, INTERMEDIATE),
            f"{at}input_layernorm.weight": (HIDDEN,),
            f"{at}post_attention_layernorm.weight": (HIDDEN,),
        }
    shapes |= {"model.norm.weight": (HIDDEN,), "lm_head.weight": (VOCABULARY, HIDDEN)}
    return {name: _tensor(rng, name, shape) for name, shape in shapes.items()}


def _tensor(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Norms are ones; the rest is uniform with the deviation of GPT-2's start, less where it feeds the residual."""
    if "norm" in name:
        return np.ones(shape, np.float32)
    deviation = DEVIATION
    if "o_proj" in name or "down_proj" in name:
        deviation /= math.sqrt(2 * LAYERS)
    # 24 bits are exact in float32, so is the shift by a half; the last product rounds once, as IEEE 754 prescribes.
    unit = rng.integers(0, 1 << 24, size=shape, dtype=np.uint32).astype(np.float32) / np.float32(1 << 24)
    return (unit - np.float32(0.5)) * np.float32(deviation * math.sqrt(12))


def tokenizer_bytes() -> bytes:
    """The tokenizer as it lies in the package."""
    return files("engine.seedling").joinpath("tokenizer.json").read_bytes()


def _whole(folder: Path) -> bool:
    """Whether a folder holds exactly what `write` would write."""
    from engine.fingerprint import content_hash

    try:
        notes = json.loads((folder / "soul.json").read_text(encoding="utf-8"))
        return (
            notes == NOTES
            and json.loads((folder / "config.json").read_text(encoding="utf-8")) == CONFIG
            and json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")) == TOKENIZER_CONFIG
            and (folder / "tokenizer.json").read_bytes() == tokenizer_bytes()
            and content_hash(folder / "model.safetensors") == WEIGHTS_HASH
        )
    except (OSError, ValueError):
        return False


WEIGHTS_HASH = "baf2cd2cfdacd8def2b2fcf4330d7ef6"
"""xxh3-128 of model.safetensors: the same on every platform, and changed only with VERSION."""


def _dump(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

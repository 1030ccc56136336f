"""llama.cpp's slot save and restore on a random model of the same shape, through llama-cpp-python.

Without that package, or the `gguf` one that writes the model, the result says "not installed". Weights are random in
float32 as ours are; only times and bytes are compared.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from bench.kv.shapes import SIZES, VOCABULARY
from bench.kv.timing import spread


def run(size: str, tokens: int, rounds: int, home: Path) -> dict[str, Any]:
    """Seconds to the first token of a turn of 32: after a restored slot, and with the prompt computed again."""
    if find_spec("llama_cpp") is None or find_spec("gguf") is None:
        return {"llama_cpp": "not installed"}
    import llama_cpp

    home.mkdir(parents=True, exist_ok=True)
    path = gguf_model(SIZES[size], home / "random.gguf")
    made: Any = llama_cpp.Llama(str(path), n_ctx=tokens + 256, n_batch=512, n_threads=os.cpu_count(), verbose=False)
    drawn = np.random.default_rng(5).integers(300, 4000, tokens + 32)
    ids, turn = [int(one) for one in drawn[:tokens]], [int(one) for one in drawn[tokens:]]
    state = home / "slot.bin"
    times: dict[str, list[float]] = {"computed_again_s": [], "saved_s": [], "restored_s": []}
    spent = 0.0
    for _ in range(rounds):
        made.reset()
        began = time.perf_counter()
        made.eval([*ids, *turn])
        times["computed_again_s"].append(time.perf_counter() - began)
        made.reset()
        made.eval(ids)
        held = (llama_cpp.llama_token * tokens)(*ids)
        began = time.perf_counter()
        assert llama_cpp.llama_state_save_file(made.ctx, str(state).encode(), held, tokens)
        times["saved_s"].append(time.perf_counter() - began)
        made.reset()
        made.eval([9])
        count: Any = ctypes.c_size_t()
        began = time.perf_counter()
        assert llama_cpp.llama_state_load_file(made.ctx, str(state).encode(), held, tokens, ctypes.pointer(count))
        made.n_tokens = int(count.value)
        made.eval(turn)
        times["restored_s"].append(time.perf_counter() - began)
        spent += times["computed_again_s"][-1] * 2
        if spent > 60 and len(times["saved_s"]) >= 3:
            break
    found: dict[str, Any] = {name: spread(one) for name, one in times.items()}
    return {
        "llama_cpp": llama_cpp.__version__,
        "model": size,
        "tokens": tokens,
        **found,
        "file_bytes": state.stat().st_size,
    }


Tensors = Callable[[str, int, int], Any]
"""(name, rows, columns) to float32 weights."""


def gguf_model(shape: Mapping[str, int], path: Path, tensors: Tensors | None = None) -> Path:
    """A Llama in the GGUF format, random where `tensors` are not given; token n from 259 on is the word w(n - 259)."""
    import gguf

    hidden, inner, layers = shape["hidden_size"], shape["intermediate_size"], shape["num_hidden_layers"]
    heads, kv_heads = shape["num_attention_heads"], shape["num_key_value_heads"]
    writer: Any = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(layers)
    writer.add_context_length(32768)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(64)
    writer.add_value_length(64)
    writer.add_rope_dimension_count(64)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("llama")
    special = [b"<unk>", b"<s>", b"</s>"]
    pieces = [f"<0x{n:02X}>".encode() for n in range(256)]
    words = [f"w{n}".encode() for n in range(VOCABULARY - 259)]
    writer.add_token_list([*special, *pieces, *words])
    writer.add_token_scores([0.0] * VOCABULARY)
    writer.add_token_types([2, 3, 3, *[6] * 256, *[1] * len(words)])
    draw = np.random.default_rng(11)

    def drawn(name: str, rows: int, columns: int) -> Any:
        return draw.standard_normal((rows, columns), dtype=np.float32) / np.float32(columns**0.5)

    def add(name: str, rows: int, columns: int) -> None:
        writer.add_tensor(name, (tensors or drawn)(name, rows, columns))

    add("token_embd.weight", VOCABULARY, hidden)
    add("output.weight", VOCABULARY, hidden)
    writer.add_tensor("output_norm.weight", np.ones(hidden, np.float32))
    for n in range(layers):
        at = f"blk.{n}."
        writer.add_tensor(f"{at}attn_norm.weight", np.ones(hidden, np.float32))
        writer.add_tensor(f"{at}ffn_norm.weight", np.ones(hidden, np.float32))
        add(f"{at}attn_q.weight", heads * 64, hidden)
        add(f"{at}attn_k.weight", kv_heads * 64, hidden)
        add(f"{at}attn_v.weight", kv_heads * 64, hidden)
        add(f"{at}attn_output.weight", hidden, heads * 64)
        add(f"{at}ffn_gate.weight", inner, hidden)
        add(f"{at}ffn_up.weight", inner, hidden)
        add(f"{at}ffn_down.weight", hidden, inner)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path

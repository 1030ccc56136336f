"""A small Llama, pre-trained by the project on real text that every Python brings along, so that losses mean something.

The text: the language reference in `pydoc_data` and the docstrings of the standard library. A part is held out: the
anchor texts. Knows torch; not what the model is used for.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from engine.seedling.template import CONTROL
from engine.seedling.weights import TOKENIZER_CONFIG, tokenizer_bytes

LENGTH = 128
PEAK = 3e-3
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "intermediate_size": 512,
    "vocab_size": 4096,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
    "bos_token_id": CONTROL.index("<|begin|>"),
    "eos_token_id": CONTROL.index("<|end|>"),
}
PASSED_OVER = ("test", "idlelib", "lib2to3", "turtledemo", "pydoc_data", "antigravity", "this", "__")


def documents() -> list[str]:
    """The language reference by topic, and chats that ask what a function of the standard library does."""
    from pydoc_data.topics import topics

    found = list(topics.values())
    for name, said in docstrings():
        first = " ".join(said.split("\n\n")[0].split())
        found.append(f"<|begin|><|turn|>user\nWhat is {name}?<|end|><|turn|>assistant\n{first}<|end|>")
        found.append(f"{name}\n{said}")
    return found


def docstrings() -> Iterator[tuple[str, str]]:
    """(name, docstring) of the public functions and classes of pure modules, each once."""
    seen: set[str] = set()
    for info in pkgutil.iter_modules([str(Path(json.__file__).parents[1])]):
        if info.name.startswith(("_", *PASSED_OVER)) or info.name not in sys.stdlib_module_names:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                module = importlib.import_module(info.name)
        except Exception:  # a module of another platform has nothing for us
            continue
        for name, value in sorted(vars(module).items()):
            said = inspect.getdoc(value) if inspect.isfunction(value) or inspect.isclass(value) else None
            if said and not name.startswith("_") and len(said) > 40 and said not in seen:
                seen.add(said)
                yield f"{info.name}.{name}", said


def texts(seed: int = 1) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(training, held out): rows of LENGTH + 1 ids. Documents are held out whole, one of twenty."""
    words = Tokenizer.from_str(tokenizer_bytes().decode())
    every = documents()
    random.Random(seed).shuffle(every)
    cut = len(every) // 20
    parts: list[NDArray[np.int32]] = []
    for some in (every[cut:], every[:cut]):
        ids = [id for encoded in words.encode_batch(some, add_special_tokens=False) for id in encoded.ids]
        rows = len(ids) // (LENGTH + 1)
        parts.append(np.array(ids[: rows * (LENGTH + 1)], np.int32).reshape(rows, LENGTH + 1))
    return parts[0], parts[1]


def pretrain(folder: Path, steps: int, say: Callable[[str], None], batch: int = 16) -> None:
    """Trains the model from a fixed seed and writes its folder. By torch: MLX's masked attention is slow on a CPU."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    training, _ = texts()
    torch.manual_seed(1)
    torch.set_num_threads(1)
    network = LlamaForCausalLM(LlamaConfig(**CONFIG))
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK, weight_decay=0.05, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK, total_steps=steps, pct_start=0.05)
    rng = np.random.default_rng(1)
    for step in range(1, steps + 1):
        ids = torch.from_numpy(training[rng.integers(0, len(training), batch)]).long()
        logits = network(ids[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            say(f"pre-training, step {step} of {steps}: loss {loss.item():.3f}")
    network.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer_config.json").write_text(json.dumps(TOKENIZER_CONFIG))
    (folder / "tokenizer.json").write_bytes(tokenizer_bytes())

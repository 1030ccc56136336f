"""The memory plan as a program: what a model weighs, what its context costs, and whether it fits.

Reads `config.json` and the headers of the safetensors files; loads nothing, imports no MLX. The same numbers answer
`soul budget` and guard admission. Bytes everywhere; 1 GB is 10⁹ bytes in messages.

KV bytes per token are `2 · layers · kv_heads · head_dim · bytes per value`: 0.36 MB for Mistral Large 2 and 0.33 MB for
a Llama of 70B in fp16. A quantised value costs its bits plus, per group of 64 values, a scale and a bias in fp16.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import psutil

from engine.errors import InvalidInput, OverBudget

Zone = Literal["green", "yellow", "red"]
KvFormat = Literal["fp32", "fp16", "q8", "k8v4"]

GB = 1e9
GROUP = 64
GREEN = 0.75
"""Up to this share of the usable memory: green. Up to all of it: yellow. Beyond: red."""
OS_SHARE = 0.125
OS_LEAST = 2 * 10**9
OS_MOST = 12 * 10**9
"""What the OS and the person's other programs keep: an eighth of the memory, 2 GB to 12 GB."""
WORKING_BYTES = 200 * 10**6
"""Activations of a prefill chunk, tokenizer, Python."""


@dataclass(frozen=True)
class Shape:
    """What of a model's `config.json` decides about memory."""

    model_type: str
    layers: int
    hidden: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context_tokens: int
    quantisation: tuple[int, int] | None
    """(bits, group size) of the weights."""
    parameters: int
    """Estimated from the shape; exact for Llama-like models without biases."""
    dtype: str

    @classmethod
    def of(cls, config: dict[str, Any]) -> Shape:
        """Reads the text model's part of a config. Raises InvalidInput when the sizes are not in it."""
        text = config | cast(dict[str, Any], config.get("text_config") or {})
        try:
            hidden = int(text["hidden_size"])
            layers = int(text["num_hidden_layers"])
            heads = int(text.get("num_attention_heads") or hidden // 128)
            vocabulary = int(text["vocab_size"])
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(
                f"config.json does not say how large the model is ({error}).", "Choose a model that mlx_lm can load."
            ) from error
        kv_heads = int(text.get("num_key_value_heads") or heads)
        head_dim = int(text.get("head_dim") or hidden // heads)
        intermediate = int(text.get("intermediate_size") or 4 * hidden)
        experts = int(text.get("num_local_experts") or text.get("num_experts") or 1)
        if experts > 1:
            intermediate = int(text.get("moe_intermediate_size") or intermediate)
        attention = hidden * head_dim * (2 * heads + 2 * kv_heads)
        embeddings = vocabulary * hidden * (1 if text.get("tie_word_embeddings", False) else 2)
        weights = config.get("quantization") or config.get("quantization_config") or {}
        bits = weights.get("bits")
        return cls(
            model_type=str(config.get("model_type", "")),
            layers=layers,
            hidden=hidden,
            kv_heads=kv_heads,
            head_dim=head_dim,
            vocabulary=vocabulary,
            context_tokens=int(text.get("max_position_embeddings") or 4096),
            quantisation=(int(bits), int(weights.get("group_size") or GROUP)) if bits else None,
            parameters=layers * (attention + 3 * hidden * intermediate * experts) + embeddings,
            dtype=str(text.get("dtype") or text.get("torch_dtype") or "bfloat16"),
        )

    def kv_bytes_per_token(self, kv: KvFormat = "fp16") -> int:
        """Bytes that one token's keys and values take in all layers. Counts each layer as a full one."""
        values = self.layers * self.kv_heads * self.head_dim
        overhead = 2 * 2 / GROUP
        per_pair = {"fp32": 8.0, "fp16": 4.0, "q8": 2 * (1 + overhead), "k8v4": 1.5 + 2 * overhead}[kv]
        return round(values * per_pair)

    def estimated_bytes(self) -> int:
        """Bytes of the weights as config.json alone suggests them."""
        if self.quantisation is not None:
            bits, group = self.quantisation
            return round(self.parameters * (bits + 32 / group) / 8)
        return self.parameters * (4 if self.dtype == "float32" else 2)


@dataclass(frozen=True)
class Budget:
    """A model beside a machine's memory."""

    shape: Shape
    weight_bytes: int
    memory_bytes: int
    taken_bytes: int = 0
    """What other models hold."""

    @classmethod
    def of(cls, folder: Path, memory_bytes: int | None = None, *, float32: bool = False, taken: int = 0) -> Budget:
        """Reads a model folder. `float32`: the weights are computed (and so held) in float32, as on a CPU."""
        shape = Shape.of(read_config(folder))
        weights = weight_bytes(folder, float32=float32) or shape.estimated_bytes()
        return cls(shape, weights, memory_bytes if memory_bytes is not None else machine_memory(), taken)

    @property
    def usable_bytes(self) -> int:
        """The red line: what is left of the memory when the OS and other models have their share."""
        return max(0, usable(self.memory_bytes) - self.taken_bytes)

    def needed(self, tokens: int = 0, kv: KvFormat = "fp16") -> int:
        """Bytes of weights, working room and `tokens` of context together."""
        return self.weight_bytes + WORKING_BYTES + tokens * self.shape.kv_bytes_per_token(kv)

    def zone(self, tokens: int = 0, kv: KvFormat = "fp16") -> Zone:
        """Green, yellow or red with `tokens` of context in all agents together."""
        return zone(self.needed(tokens, kv) + self.taken_bytes, self.memory_bytes)

    def fitting_tokens(self, kv: KvFormat = "fp16", *, up_to: Zone = "yellow") -> int:
        """How many tokens of context fit, in all agents together, before `up_to` is left; 0 when none do."""
        room = self.usable_bytes * (GREEN if up_to == "green" else 1.0) - self.needed()
        return max(0, int(room // max(1, self.shape.kv_bytes_per_token(kv))))

    def admit(self, kv: KvFormat = "fp16", *, least_tokens: int = 2048, name: str = "This model") -> None:
        """Raises OverBudget, with the figures and the remedy, when the model and a least context cross the red line."""
        if self.zone(least_tokens, kv) != "red":
            return
        raise OverBudget(
            f"{name} needs {self.needed(least_tokens, kv) / GB:.1f} GB (weights {self.weight_bytes / GB:.1f} GB, "
            f"{least_tokens} tokens of context {least_tokens * self.shape.kv_bytes_per_token(kv) / GB:.1f} GB), and "
            f"{self.usable_bytes / GB:.1f} of {self.memory_bytes / GB:.1f} GB are usable here.",
            "Choose a smaller model or one with fewer bits per weight: `soul budget` lists what fits.",
        )


def usable(memory_bytes: int) -> int:
    """Memory without the share of the OS."""
    reserve = min(max(int(memory_bytes * OS_SHARE), OS_LEAST), OS_MOST)
    return max(0, memory_bytes - reserve)


def zone(used: int, memory_bytes: int) -> Zone:
    """Where `used` bytes stand in a machine's memory."""
    line = usable(memory_bytes)
    if used <= GREEN * line:
        return "green"
    return "yellow" if used <= line else "red"


def machine_memory() -> int:
    """Bytes of RAM of this machine."""
    return int(psutil.virtual_memory().total)


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a model folder. Raises InvalidInput when it is missing or not JSON."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidInput(
            f"{folder} is not a model folder: it has no config.json.",
            "Give a folder with config.json, tokenizer.json and *.safetensors, or a hub name such as org/name.",
        ) from None
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}.", "Download the model again.") from error
    if not isinstance(config, dict):
        raise InvalidInput(f"{path} does not hold a JSON object.", "Download the model again.")
    return cast(dict[str, Any], config)


ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "BOOL": 1}


def weight_bytes(folder: Path, *, float32: bool = False) -> int:
    """Bytes that the tensors of a model folder take in memory, from the file headers; 0 without files.

    Raises InvalidInput for a file that is torn or no safetensors file.
    """
    total = 0
    for path in sorted(folder.glob("model*.safetensors")):
        for entry in tensors(path).values():
            begin, end = entry["data_offsets"]
            half = entry["dtype"] in ("F16", "BF16")
            total += (end - begin) * (2 if float32 and half else 1)
    return total


def tensors(path: Path) -> dict[str, dict[str, Any]]:
    """The header of a safetensors file: name -> dtype, shape, data_offsets. Checks that the file is as long as it says.

    Format: 8 bytes length (little endian), JSON header, data.
    """
    remedy = "Delete the file and download the model again."
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size - 8, 100_000_000):
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise InvalidInput(f"{path} is no whole safetensors file: {error}.", remedy) from error
    if size != 8 + length + end:
        raise InvalidInput(f"{path} is torn: {size} bytes instead of {8 + length + end}.", remedy)
    return header

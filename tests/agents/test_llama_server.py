"""A real llama-cpp-python server as API hands: what is compatible with OpenAI in name is so in fact."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
import pytest

from agents.hands.api import ApiHands
from agents.hands.outcome import Assignment, Outcome
from agents.roster import ApiSpec
from bench.kv.llama_cpp import gguf_model
from bench.kv.shapes import VOCABULARY
from memory.uuid7 import uuid7

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
pytest.importorskip("llama_cpp.server.app", reason="llama-cpp-python has no server here")
pytest.importorskip("gguf", reason="the package gguf is not installed")
pytest.importorskip("openai", reason="pip install 'soul-mcp[hands]'")
pytestmark = pytest.mark.anyio

TINY = {
    "hidden_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "intermediate_size": 64,
}
FIRST_WORD, END = 259, 2


def says_two_words(name: str, rows: int, columns: int) -> Any:
    """Whatever was asked: w0, w1, the end. Layers do nothing; each token's embedding points to the next token."""
    weights = np.zeros((rows, columns), np.float32)
    if name == "token_embd.weight":
        weights[:, 0] = 1
        for axis, token in enumerate((FIRST_WORD, FIRST_WORD + 1), 1):
            weights[token] = 0
            weights[token, axis] = 1
    if name == "output.weight":
        for axis, token in enumerate((FIRST_WORD, FIRST_WORD + 1, END)):
            weights[token, axis] = 5
    return weights


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model = gguf_model(TINY, tmp_path_factory.mktemp("gguf") / "tiny.gguf", says_two_words)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(model), "--port", str(port), "--n_ctx", "512"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT) as process:
        try:
            while True:
                assert process.poll() is None, "the server left"
                try:
                    urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=10).close()
                    break
                except URLError:
                    continue
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()


async def ask(url: str, tokens: int) -> Outcome:
    spec = ApiSpec(name="writer", role="builder", runs_on="api", model="tiny", base_url=url, minutes=1, tokens=tokens)

    async def started(pid: int, when: float) -> None:
        raise AssertionError("an API has no process")

    return await ApiHands(spec).carry_out(Assignment(uuid7(), "Say two words.", None), started)


async def test_a_local_llama_server_answers_as_hands(server: str) -> None:
    assert VOCABULARY > FIRST_WORD + 1
    outcome = await ask(server, 16)
    assert outcome.text.replace(" ", "") == "w0w1"
    assert outcome.tokens > 2

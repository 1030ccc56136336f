"""Dreams: planned, trained in a process of their own, gone on with after a kill, kept only when they learned."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import InvalidInput, NotFound
from evolution import adapter as adapters
from evolution import tensors
from evolution.generations import Generations
from evolution.integrate import integrate
from evolution.samples import Sample, batch_of, order, read
from evolution.tensors import Floats
from evolution.ties import Ties
from tests.drawn import drawn
from tests.engine.oracle import on_a_thread
from tests.evolution import making
from tests.evolution.making import quiet

SOUL = str(Path(sys.executable).parent / "soul")
QUICK = ("--targets", "all-linear", "--rank", "8", "--rate", "0.003", "--steps", "6", "--every", "2", "--json")
QUICK = (*QUICK, "--hold", "0")  # writing own text takes a CPU most of a minute; see test_holding


def chats(path: Path, lines: Sequence[tuple[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    said = [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}
        for asked, answer in lines
    ]
    path.write_text("".join(json.dumps(one) + "\n" for one in said), encoding="utf-8")
    return path


@pytest.fixture
def dreaming(home: Path) -> Path:
    """A home whose golden log says the same of twenty things."""
    drawn(home / "base")
    things = [f"thing {number}" for number in range(20)]
    chats(home / "golden" / "training_buffer.jsonl", [(f"Where is {one}?", "It is in the harbour.") for one in things])
    return home


def command(home: Path, *words: str, **variables: str) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SOUL_")}
    environment = {**clean, "SOUL_HOME": str(home), "SOUL_MODEL": str(home / "base"), **variables}
    return subprocess.Popen([SOUL, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(home: Path, *words: str, **variables: str) -> tuple[int, str, str]:
    process = command(home, *words, **variables)
    out, error = process.communicate(timeout=400)
    return process.returncode, out, error


def soul(home: Path, *words: str) -> tuple[int, str, str]:
    return run(home, "dream", *words)


def weights(home: Path, name: str) -> dict[str, Floats]:
    return {
        f"{module}.{half}": getattr(pair, half)
        for module, pair in adapters.load(home / "adapters" / name).pairs.items()
        for half in ("a", "b")
    }


@pytest.mark.timeout(600)
def test_a_dream_is_planned_learns_and_survives_a_kill_to_the_same_bits(dreaming: Path) -> None:
    plan = json.loads(soul(dreaming, "--dry-run", *QUICK)[1])
    assert (plan["samples"], plan["held_out"], plan["resumes_at"]) == (18, 2, 0)
    assert not (dreaming / "dreams").exists()

    process = command(dreaming, "dream", "--name", "broken-off", *QUICK)
    checkpoint = dreaming / "dreams" / plan["identity"][:16] / "checkpoint.safetensors"
    while process.poll() is None and not checkpoint.exists():
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    status, out, error = soul(dreaming, "--name", "broken-off", *QUICK)
    assert status == 0, error
    made: dict[str, Any] = json.loads(out)
    assert made["held_out_loss"]["after"] < made["held_out_loss"]["before"]
    assert not checkpoint.exists()

    assert soul(dreaming, "--name", "at-once", "--on", "anchor", *QUICK)[0] == 0
    whole, resumed = weights(dreaming, "at-once"), weights(dreaming, "broken-off")
    for name, value in whole.items():
        np.testing.assert_array_equal(resumed[name], value)


@pytest.mark.timeout(300)
def test_a_dream_on_the_current_generation_begins_there_and_belongs_to_the_anchor(dreaming: Path) -> None:
    base = dreaming / "base"
    made = integrate(dreaming, base, [making.adapter("week-1", base, 1)], Ties(), setting=str(base), report=quiet)
    Generations(dreaming).promote(made.number, unjudged=True)
    short = ("--targets", "all-linear", "--rank", "4", "--rate", "0.003", "--steps", "6", "--every", "3", "--hold", "0")
    short = (*short, "--json")
    plan = json.loads(soul(dreaming, "--on", "anchor", "--dry-run", *short)[1])
    status, out, error = soul(dreaming, "--on", "current", *short)
    assert status == 0, error
    told = json.loads(out)
    assert told["on"] == 1
    assert told["identity"] != plan["identity"]
    adapters.load(dreaming / "adapters" / told["name"]).require(
        made.anchor, {name: place.shape for name, place in tensors.places_of(base).items()}
    )


def test_a_dream_whose_loss_is_no_number_keeps_nothing_and_says_so(dreaming: Path) -> None:
    with (dreaming / "base" / "model.safetensors").open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(np.float32(np.nan).tobytes())
    status, _, error = soul(dreaming, *QUICK)
    assert status == 1
    assert "no number after step 0" in error
    assert adapters.names(dreaming) == ()


def test_an_empty_a_poor_and_a_broken_buffer_are_refused_with_the_reason(home: Path) -> None:
    base = drawn(home / "base")

    def reading(path: Path, longest: int = 256) -> Any:
        def work() -> Any:
            from mlx_lm.utils import load_tokenizer

            try:
                return read(path, load_tokenizer(base), longest=longest, seed=0)
            except (InvalidInput, NotFound) as error:
                return error

        return on_a_thread(work)

    assert "no training buffer" in str(reading(home / "none.jsonl"))
    assert "0 different usable samples of 0 lines" in str(reading(chats(home / "empty.jsonl", [])))
    copies = chats(home / "copies.jsonl", [("Who?", "I.")] * 1000)
    assert "1 different usable samples of 1000 lines" in str(reading(copies))
    (home / "torn.jsonl").write_text('{"messages": []}\n')
    assert "line 1, is no chat" in str(reading(home / "torn.jsonl"))
    long = chats(home / "long.jsonl", [(f"{number} " * 200, "Yes.") for number in range(20)])
    assert "0 different usable samples of 20" in str(reading(long, longest=64))


def test_the_loss_counts_the_answer_alone_and_batches_come_in_one_order_for_a_seed() -> None:
    ids, bounds = batch_of([Sample((5, 6, 7, 8), 2), Sample((5, 6), 1)])
    assert ids.shape == (2, 33)
    assert bounds.tolist() == [[2, 3], [1, 1]]
    steps = order(5, seed=3)
    first = [next(steps) for _ in range(12)]
    assert sorted(first[:5]) == sorted(first[5:10]) == list(range(5))
    later = order(5, seed=3, first=7)
    assert [next(later) for _ in range(5)] == first[7:]

"""Holding on: a dream stays near what it begins on where the golden log says nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evolution.samples import Buffer, Sample
from tests.drawn import drawn
from tests.engine.oracle import on_a_thread
from tests.evolution.making import quiet

STARTS = ((1,), (1, 2))
KEYS = ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj")


def network() -> Any:
    """A Llama of two small layers with fixed random weights."""
    from mlx_lm.models.llama import Model, ModelArgs

    from engine.backend import mx

    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 128}
    made: Any = Model(ModelArgs(model_type="llama", num_attention_heads=2, rms_norm_eps=1e-5, **sizes))
    mx.random.seed(0)
    made.load_weights([(name, 0.1 * mx.random.normal(value.shape)) for name, value in flat(made)])
    return made


def flat(made: Any) -> Any:
    from mlx.utils import tree_flatten

    return tree_flatten(made.parameters())


def dreamt(room: Path, hold: float) -> tuple[float, float, Any]:
    """(fall of the held-out loss, KL on text the model wrote with another seed, own text) of a short dream."""

    def work() -> tuple[float, float, Any]:
        from evolution import holding
        from evolution.training import Numbers, Run, train

        made = network()
        (room / "other").mkdir(parents=True)
        other = holding.own_text(room / "other", made, STARTS, 1000)
        run = Run(made, room, Numbers(rank=8, rate=3e-3, steps=60, every=60, hold=hold), KEYS, STARTS)
        some = tuple(Sample((1, 2, 3 + at, 40, 41, 42, 43), 3) for at in range(16))
        train(run, Buffer(some, some[:4], "sum", 0, 0), quiet)
        ids = holding.chosen(other, 0, 0)
        drift = float(holding.divergence(made, ids, holding.logprobs(made, ids)).item())
        own = np.load(room / holding.FILE) if hold else None
        return run.trace.held_out[0][1] - run.trace.best[1], drift, own

    return on_a_thread(work)


def test_holding_on_keeps_the_rest_of_the_model_and_learns_all_the_same(tmp_path: Path) -> None:
    free, far, none = dreamt(tmp_path / "free", 0.0)
    held, near, own = dreamt(tmp_path / "held", 5.0)
    assert none is None
    assert near < far / 2
    assert held > free / 2 > 0
    assert own.shape == (128, 64)
    np.testing.assert_array_equal(dreamt(tmp_path / "again", 5.0)[2], own)


def test_a_dream_that_holds_on_goes_on_after_a_break_to_the_same_bits(tmp_path: Path) -> None:
    some = tuple(Sample((1, 2, 3 + at, 40, 41, 42, 43), 3) for at in range(16))
    buffer = Buffer(some, some[:4], "sum", 0, 0)

    class Broken(Exception):
        """The process ends here."""

    def work(room: Path, breaks_at: float) -> Any:
        from evolution.training import Numbers, Run, train

        def report(_detail: str, share: float | None) -> None:
            if share == breaks_at:
                raise Broken

        run = Run(network(), room, Numbers(rank=4, rate=3e-3, steps=8, every=2), KEYS, STARTS)
        run.resume()
        try:
            train(run, buffer, report)
        except Broken:
            return work(room, -1.0)
        return run.pairs()

    rooms = [tmp_path / name for name in ("whole", "broken")]
    for room in rooms:
        room.mkdir()
    whole, broken = (
        on_a_thread(lambda room=room, at=at: work(room, at)) for room, at in zip(rooms, (-1.0, 5 / 8), strict=True)
    )
    for module, pair in whole.items():
        np.testing.assert_array_equal(broken[module].b, pair.b)


def test_a_dream_that_goes_on_begins_with_the_former_one(tmp_path: Path) -> None:
    def work() -> tuple[float, float]:
        from evolution.training import Numbers, Run, train

        some = tuple(Sample((1, 2, 3 + at, 40, 41, 42, 43), 3) for at in range(16))
        buffer = Buffer(some, some[:4], "sum", 0, 0)
        losses: list[float] = []
        pairs: Any = None
        for room in (tmp_path / "first", tmp_path / "second"):
            room.mkdir()
            run = Run(network(), room, Numbers(rank=4, rate=3e-3, steps=10, every=10, hold=0), KEYS)
            if pairs:
                run.begin(pairs)
            train(run, buffer, quiet)
            losses += [run.trace.held_out[0][1], run.trace.best[1]]
            pairs = run.pairs()
        return losses[2] - losses[1], losses[3] - losses[2]

    apart, fall = on_a_thread(work)
    assert apart == pytest.approx(0.0, abs=1e-5)
    assert fall < 0


def test_nothing_holds_before_the_first_step(tmp_path: Path) -> None:
    def work() -> float:
        from engine.backend import mx
        from evolution import holding
        from evolution.training import Numbers, Run

        made = network()
        Run(made, tmp_path, Numbers(rank=4), KEYS)
        ids = mx.array([[1, 2, 3, 4]])
        return float(holding.divergence(made, ids, holding.logprobs(made, ids)).item())

    assert on_a_thread(work) == pytest.approx(0.0, abs=1e-6)


def test_own_text_begins_bare_or_where_a_person_speaks(tmp_path: Path) -> None:
    base = drawn(tmp_path / "base")

    def work() -> Any:
        from mlx_lm.utils import load_tokenizer

        from engine.chat import Chat
        from evolution import holding

        tokenizer: Any = load_tokenizer(base)
        return [tokenizer.decode(head) for head in holding.heads(Chat(tokenizer, "base"))]

    bare, asked = on_a_thread(work)
    assert asked.startswith(bare)
    assert asked.endswith("user\n")

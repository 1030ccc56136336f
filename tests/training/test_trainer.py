"""The trainer learns, goes on where it stopped, and writes what mlx_lm loads to the same logits."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from engine.chat import Chat
from engine.errors import InvalidInput
from training import words
from training.batches import DECISIVE, DIGIT, IGNORED, KEPT, batch

torch = pytest.importorskip("torch")

from training.export import export  # noqa: E402 (after the skip)
from training.trainer import CHECKPOINT, CURVE, Point, Settings, fresh, rate_at, shape, train  # noqa: E402

SHORT = Settings(
    steps=10, tokens=1_536, stages=((2, "ids-1"), (5, "told"), (8, "bare")), lengths=((20, 768),), warmup=2, layers=2
)


def ignore(_: Point) -> None:
    pass


def blunt(model: Any) -> Any:
    """With small drawn matrices: of two sharp matches that are nearly a tie, a rounding decides."""
    torch.manual_seed(1)
    for one in model.parameters():
        if one.dim() == 2:
            torch.nn.init.normal_(one, std=0.02)
    return model


@pytest.fixture
def chat() -> Chat:
    return words.chat()


def test_a_batch_is_of_its_step_and_teaches_only_what_follows(chat: Chat) -> None:
    first, again, other = (batch(chat, 3_000, 1_000, 1, step) for step in (5, 5, 6))
    assert np.array_equal(first.ids, again.ids)
    assert not np.array_equal(first.ids, other.ids)
    assert sum(first.parts) == first.ids.size == 3_000
    assert max(first.parts) <= 1_000
    at = 0
    for size in first.parts:
        ids, targets = first.ids[at : at + size], first.targets[at : at + size]
        taught = targets[:-1] != IGNORED
        assert taught.sum() > 0 or at + size == 3_000, "only the last one is cut"
        assert np.array_equal(targets[:-1][taught], ids[1:][taught])
        at += size
    assert (first.targets != IGNORED).mean() < 0.5


def test_what_decides_counts_more_than_what_follows(chat: Chat) -> None:
    # In so many scenes of this stage a notebook is rewritten, however the draws fall.
    made = batch(chat, 16_000, 2_000, 1, 5, stage="kept")
    heavy = made.weights >= DECISIVE
    learned = made.targets != IGNORED
    firsts = learned & ~np.roll(learned, 1)
    assert heavy[firsts].all()
    the, be = (chat.encode(word)[0] for word in ("The port", " is"))
    for place in np.flatnonzero(learned & np.isin(made.ids, [the, be])):
        assert heavy[place]
    digits = np.isin(made.targets, chat.encode("0123456789")) & ~heavy
    assert digits.any()
    assert (made.weights[digits] == DIGIT).all()
    chosen, stays = chat.encode("] stays")
    line_stays = (made.ids == chosen) & (np.roll(made.ids, -1) == stays)
    assert (learned & line_stays).any()
    assert (made.weights[line_stays] == KEPT * DECISIVE).all()
    assert set(made.weights[~line_stays]) == {1.0, DIGIT, DECISIVE}
    assert heavy[learned].mean() < 0.5


def test_a_scene_is_read_without_those_beside_it(chat: Chat) -> None:
    model = cast(Any, blunt(fresh(SHORT)).eval())
    made = batch(chat, 2_000, 700, 1, 0)
    with torch.no_grad():
        together = model.model(input_ids=torch.from_numpy(made.ids)[None], parts=made.parts).last_hidden_state[0]
        at = 0
        for size in made.parts:
            alone = model.model(input_ids=torch.from_numpy(made.ids[at : at + size])[None]).last_hidden_state[0]
            torch.testing.assert_close(together[at : at + size], alone, atol=2e-4, rtol=1e-3)
            at += size
    assert len(made.parts) > 1


def test_the_rate_rises_stays_and_falls() -> None:
    settings = Settings(steps=100, rate=1.0, warmup=10, decay=0.2)
    rates = [rate_at(step, settings) for step in range(100)]
    assert rates[0] == 0.1
    assert rates[9:81] == [1.0] * 72
    assert rates[99] == pytest.approx(0.05)


def test_the_loss_falls_and_the_curve_is_written(chat: Chat, tmp_path: Path) -> None:
    _, curve = train(chat, SHORT, tmp_path / "run", ignore)
    assert len(curve) == SHORT.steps
    assert curve[-1].loss < curve[0].loss - 0.5
    assert len(json.loads((tmp_path / "run" / CURVE).read_text(encoding="utf-8"))["curve"]) == SHORT.steps


def test_a_run_in_two_parts_ends_with_the_weights_of_one_in_a_single_part(chat: Chat, tmp_path: Path) -> None:
    short = replace(SHORT, steps=4)
    whole, _ = train(chat, short, tmp_path / "whole", ignore)
    train(chat, short, tmp_path / "parts", ignore, until=2)
    parts, curve = train(chat, short, tmp_path / "parts", ignore)
    assert [one.step for one in curve] == [0, 1, 2, 3]
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value)


def test_a_run_may_be_made_longer(chat: Chat, tmp_path: Path) -> None:
    train(chat, replace(SHORT, steps=6), tmp_path / "run", ignore, until=2)
    _, curve = train(chat, replace(SHORT, steps=12), tmp_path / "run", ignore, until=3)
    assert [one.step for one in curve] == [0, 1, 2]


def test_the_first_weights_say_a_run_again() -> None:
    model = cast(Any, fresh(replace(SHORT, layers=8)).eval())
    rng = np.random.default_rng(3)
    run, between = (rng.integers(16, 4_096, count) for count in (60, 300))
    ids = torch.from_numpy(np.concatenate([run, between, run]))
    with torch.no_grad():
        said = model(input_ids=ids[None]).logits[0].argmax(-1)
    # From the third id on: a place is found by the two tokens before it.
    right = (said[362:-1] == ids[363:]).float().mean()
    assert right > 0.6
    assert (said[:300] == ids[1:301]).float().mean() < 0.05


def test_a_run_may_begin_with_a_model_s_weights(tmp_path: Path) -> None:
    taught = fresh(replace(SHORT, seed=5))
    export(taught, shape(SHORT), tmp_path / "model")
    for name, value in fresh(SHORT, tmp_path / "model").state_dict().items():
        torch.testing.assert_close(value, taught.state_dict()[name].half().float())


def test_a_checkpoint_of_other_settings_is_refused_and_kept(chat: Chat, tmp_path: Path) -> None:
    short = replace(SHORT, steps=1)
    train(chat, short, tmp_path, ignore)
    before = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(InvalidInput, match=r"other settings.*another folder"):
        train(chat, replace(short, seed=2), tmp_path, ignore)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


def test_mlx_lm_loads_the_export_to_the_same_logits(chat: Chat, tmp_path: Path) -> None:
    import mlx.core as mx
    from mlx_lm import load

    model = blunt(fresh(SHORT))
    export(model, shape(SHORT), tmp_path / "model")
    ids = batch(chat, 800, 800, 9, 0).ids[None]
    # Both from the same rounded weights, so that only the arithmetic differs.
    model.half().float().eval()
    with torch.no_grad():
        wanted = cast(Any, model)(input_ids=torch.from_numpy(ids)).logits.numpy()
    loaded = cast(Any, load(str(tmp_path / "model"))[0])
    loaded.set_dtype(mx.float32)
    got = np.asarray(cast(Callable[[mx.array], mx.array], loaded)(mx.array(ids)))
    assert np.abs(got - wanted).max() < 1e-3
    assert not json.loads((tmp_path / "model" / "soul.json").read_text(encoding="utf-8"))["trusted"]

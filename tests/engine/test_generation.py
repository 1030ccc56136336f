"""Drawing replies: what comes out, what stays in the context, who waits for whom, and how it ends early."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path

import anyio
import pytest

from engine.engine import Engine, EngineConfig, Event, Finished, Prefill, Sampling, Token
from engine.errors import Conflict, InvalidInput, NotFound, OverBudget, Unavailable
from tests.engine.oracle import greedy, mean_logprob
from tests.models import parrot

pytestmark = pytest.mark.anyio

PROMPT = tuple(range(100, 180))
LONG = Sampling(max_tokens=400, temperature=1.0, seed=5)


async def say(engine: Engine, context: str, ids: Sequence[int], sampling: Sampling | None = None) -> Finished:
    events = [event async for event in engine.generate(context, ids, sampling or Sampling(max_tokens=12))]
    assert isinstance(events[-1], Finished)
    return events[-1]


async def fresh(engine: Engine, context: str, ids: Sequence[int], count: int = 12) -> tuple[int, ...]:
    """What a context that was never anything else draws."""
    await engine.start(context, [])
    return (await say(engine, context, ids, Sampling(max_tokens=count))).ids


async def test_greedy_tokens_are_those_of_mlx_lm(engine: Engine, drawn_folder: Path) -> None:
    drawn = await fresh(engine, "a", PROMPT, 40)
    assert list(drawn) == greedy(drawn_folder, PROMPT, 40)


async def test_events_tell_of_prefill_then_tokens_then_the_end(engine: Engine) -> None:
    await engine.start("a", [])
    events: list[Event] = [event async for event in engine.generate("a", PROMPT, Sampling(max_tokens=5))]
    prefills = [event for event in events if isinstance(event, Prefill)]
    tokens = [event for event in events if isinstance(event, Token)]
    assert [event.done for event in prefills] == [64, 79, 80]
    assert {event.total for event in prefills} == {80}
    end = events[-1]
    assert isinstance(end, Finished)
    assert (end.reason, end.prompt_tokens, end.cached_tokens) == ("length", 80, 0)
    assert tuple(token.id for token in tokens) == end.ids
    assert "".join(token.text for token in tokens) == end.text


async def test_a_second_turn_computes_only_what_is_new(engine: Engine) -> None:
    await engine.start("a", [])
    first = await say(engine, "a", PROMPT)
    second = await say(engine, "a", [7, 8, 9])
    assert second.cached_tokens == len(PROMPT) + len(first.ids) - 1
    assert second.ids == await fresh(engine, "b", [*PROMPT, *first.ids, 7, 8, 9])


async def test_the_stop_token_stays_in_the_ids_and_out_of_the_text(engine: Engine, tmp_path: Path) -> None:
    folder = parrot(tmp_path / "parrot", "Good morning.")
    async with Engine.open(EngineConfig(tmp_path, model=str(folder))) as spoken:
        await spoken.start("a", [])
        end = await say(spoken, "a", [*spoken.chat.turn("user", "hello"), *spoken.chat.reply_start()])
        assert (end.reason, end.text) == ("stop", "Good morning.")
        assert end.ids[-1] in spoken.chat.stop_ids
        assert spoken.ids("a")[-2:] == end.ids


async def test_stop_ids_of_the_request_end_it_too(engine: Engine) -> None:
    drawn = await fresh(engine, "a", PROMPT)
    await engine.start("b", [])
    end = await say(engine, "b", PROMPT, Sampling(max_tokens=12, stop_ids=frozenset({drawn[0]})))
    assert (end.reason, end.ids, end.text) == ("stop", drawn[:1], "")


async def test_the_same_seed_draws_the_same_tokens_whoever_else_is_drawing(engine: Engine) -> None:
    sampling = Sampling(max_tokens=30, temperature=1.0, top_p=0.9, top_k=50, min_p=0.01, seed=11)
    await engine.start("alone", [])
    alone = await say(engine, "alone", PROMPT, sampling)
    together: dict[str, Finished] = {}

    async def draw(context: str, wish: Sampling) -> None:
        await engine.start(context, [])
        together[context] = await say(engine, context, PROMPT, wish)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(draw, "a", sampling)
        tasks.start_soon(draw, "b", Sampling(max_tokens=30, temperature=1.0, seed=12))
    assert together["a"].ids == alone.ids
    assert together["b"].ids != alone.ids


async def test_a_long_prefill_does_not_starve_a_decode(engine: Engine) -> None:
    order: list[str] = []
    reading = anyio.Event()

    async def decode() -> None:
        await engine.start("quick", [])
        async for event in engine.generate("quick", PROMPT[:4], LONG):
            if isinstance(event, Token):
                order.append("token")
                reading.set()

    async def read() -> None:
        await reading.wait()
        await engine.start("long", [])
        async for event in engine.generate("long", [50] * 1000, Sampling(max_tokens=0)):
            if isinstance(event, Prefill):
                order.append("chunk")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(decode)
        tasks.start_soon(read)
    chunks = [place for place, kind in enumerate(order) if kind == "chunk"]
    assert len(chunks) == 16
    between = [order[left + 1 : right].count("token") for left, right in pairwise(chunks)]
    assert between == [1] * 15


async def test_two_prefills_take_turns_chunk_by_chunk(engine: Engine) -> None:
    order: list[str] = []

    async def read(context: str) -> None:
        await engine.start(context, [])
        async for event in engine.generate(context, [50] * 640, Sampling(max_tokens=0)):
            if isinstance(event, Prefill):
                order.append(context)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read, "a")
        tasks.start_soon(read, "b")
    assert set(order[1:5]) == {"a", "b"}
    assert sorted(order) == ["a"] * 10 + ["b"] * 10


async def test_closing_the_iterator_frees_the_engine_and_leaves_the_truth(engine: Engine) -> None:
    await engine.start("a", [])
    seen: list[int] = []
    async with aclosing(engine.generate("a", PROMPT, LONG)) as events:
        async for event in events:
            if isinstance(event, Token):
                seen.append(event.id)
            if len(seen) == 3:
                break
    status = engine.status()
    assert (status.running, status.queued) == ((), 0)
    held = engine.ids("a")
    assert held[: len(PROMPT) + 3] == (*PROMPT, *seen)
    assert len(held) < len(PROMPT) + 400
    assert status.contexts[0].cached_tokens == len(held) - 1
    assert (await say(engine, "a", [7])).ids == await fresh(engine, "b", [*held, 7])


async def test_a_cancelled_caller_stops_a_prefill_after_its_chunk(engine: Engine) -> None:
    await engine.start("a", [])
    prompt = [60 + place % 40 for place in range(1200)]
    with anyio.CancelScope() as scope:
        async for event in engine.generate("a", prompt, Sampling(max_tokens=5)):
            if isinstance(event, Prefill):
                scope.cancel()
    assert engine.ids("a") == tuple(prompt)
    cached = engine.status().contexts[0].cached_tokens
    assert cached % 64 == 0
    assert 0 < cached < 1199
    assert (await say(engine, "a", [7])).ids == await fresh(engine, "b", [*prompt, 7])


async def test_a_context_is_free_once_the_last_event_is_there(engine: Engine) -> None:
    await engine.start("a", [])
    left_open: list[object] = []
    for _ in range(5):
        events = engine.generate("a", [7, 8], Sampling(max_tokens=2))
        left_open.append(events)
        async for event in events:
            if isinstance(event, Finished):
                break
        assert engine.status().running == ()
    assert len(engine.ids("a")) == 20
    left_open.clear()


async def test_cancel_ends_a_generation_with_its_reason(engine: Engine) -> None:
    await engine.start("a", [])
    end: Finished | None = None
    async for event in engine.generate("a", PROMPT, LONG):
        if isinstance(event, Token):
            engine.cancel("a")
        if isinstance(event, Finished):
            end = event
    assert end is not None
    assert end.reason == "cancelled"
    assert engine.ids("a") == (*PROMPT, *end.ids)
    assert engine.cancel("a") is False


async def test_no_tokens_wished_for_means_prefill_only(engine: Engine) -> None:
    await engine.start("a", [])
    end = await say(engine, "a", PROMPT, Sampling(max_tokens=0))
    assert (end.reason, end.ids) == ("length", ())
    assert engine.status().contexts[0].cached_tokens == len(PROMPT) - 1


async def test_appended_ids_are_computed_with_the_next_reply(engine: Engine) -> None:
    await engine.start("a", PROMPT[:40])
    await engine.append("a", PROMPT[40:])
    assert engine.status().contexts[0].cached_tokens == 0
    assert (await say(engine, "a", [7])).ids == await fresh(engine, "b", [*PROMPT, 7])


@pytest.mark.parametrize("length", [0, 1, 40, 80, 91])
async def test_a_truncated_context_is_as_if_it_had_never_been_longer(engine: Engine, length: int) -> None:
    await engine.start("a", [])
    drawn = (await say(engine, "a", PROMPT)).ids
    await engine.truncate("a", length)
    assert engine.ids("a") == (*PROMPT, *drawn)[:length]
    assert (await say(engine, "a", [7, 8])).ids == await fresh(engine, "b", [*(*PROMPT, *drawn)[:length], 7, 8])


async def test_starting_anew_keeps_what_is_computed_of_a_common_beginning(engine: Engine) -> None:
    await engine.start("a", [])
    await say(engine, "a", PROMPT)
    await engine.start("a", [*PROMPT[:50], 3000, 3001])
    end = await say(engine, "a", [7])
    assert end.cached_tokens == 50
    assert end.ids == await fresh(engine, "b", [*PROMPT[:50], 3000, 3001, 7])


async def test_a_context_fully_computed_can_be_answered_to_without_new_ids(engine: Engine) -> None:
    await engine.start("a", [])
    await say(engine, "a", PROMPT)
    await engine.truncate("a", 40)
    assert (await say(engine, "a", [])).ids == await fresh(engine, "b", PROMPT[:40])


async def test_a_full_context_ends_the_reply(drawn_folder: Path, tmp_path: Path) -> None:
    async with Engine.open(EngineConfig(tmp_path, model=str(drawn_folder), context_tokens=90)) as engine:
        await engine.start("a", [])
        end = await say(engine, "a", PROMPT, Sampling(max_tokens=50))
        assert (end.reason, len(end.ids)) == ("length", 10)
        with pytest.raises(OverBudget, match=r"91 tokens; drawn has room for 90"):
            await say(engine, "a", [])


async def test_a_request_over_the_context_is_refused_with_the_figures(engine: Engine) -> None:
    await engine.start("a", [])
    with pytest.raises(OverBudget, match=r"8201 tokens.*room for 8192"):
        await say(engine, "a", [50] * 8200)
    assert engine.ids("a") == ()


async def test_what_does_not_exist_is_busy_or_wrong_is_named(engine: Engine) -> None:
    with pytest.raises(NotFound, match="no context named nowhere"):
        await say(engine, "nowhere", [1])
    await engine.start("a", [])
    with pytest.raises(InvalidInput, match="is empty"):
        await say(engine, "a", [])
    with pytest.raises(InvalidInput, match="vocabulary of drawn ends at 4095"):
        await say(engine, "a", [4096])
    async with aclosing(engine.generate("a", PROMPT, LONG)) as events:
        await anext(events)
        for attempt in (say(engine, "a", [1]), engine.append("a", [1]), engine.truncate("a", 1), engine.drop("a")):
            with pytest.raises(Conflict, match="at work already"):
                await attempt
        with pytest.raises(Conflict):
            await engine.start("a", [1])
    await engine.drop("a")
    await engine.drop("a")
    assert not engine.exists("a")


async def test_choose_weighs_options_as_one_pass_over_each_would(engine: Engine, drawn_folder: Path) -> None:
    await engine.start("a", PROMPT)
    options = [[500], [501, 502, 503], [1200, 7]]
    chosen = await engine.choose("a", [9, 8, 7], options)
    scores = [mean_logprob(drawn_folder, [*PROMPT, 9, 8, 7], option) for option in options]
    expected = [math.exp(score) / sum(map(math.exp, scores)) for score in scores]
    assert chosen == pytest.approx(expected, abs=1e-4)
    assert sum(chosen) == pytest.approx(1)
    assert engine.ids("a") == PROMPT
    assert (await say(engine, "a", [7])).ids == await fresh(engine, "b", [*PROMPT, 7])


async def test_choose_refuses_nothing_to_choose_among(engine: Engine) -> None:
    await engine.start("a", PROMPT)
    for options in ([], [[5], []]):
        with pytest.raises(InvalidInput, match="nothing to choose"):
            await engine.choose("a", [], options)


async def test_a_step_that_fails_is_told_in_words_and_the_context_recovers(engine: Engine) -> None:
    await engine.start("a", [])
    drawn = (await say(engine, "a", PROMPT)).ids
    layer = engine._model.network.layers[3]  # pyright: ignore[reportPrivateUsage]
    broken, layer.mlp = layer.mlp, None
    with pytest.raises(Unavailable, match="failed while computing: TypeError"):
        await say(engine, "a", [7])
    layer.mlp = broken
    assert engine.ids("a") == (*PROMPT, *drawn, 7)
    assert (await say(engine, "a", [8])).ids == await fresh(engine, "b", [*PROMPT, *drawn, 7, 8])


async def test_closing_the_engine_in_mid_answer_says_so(drawn_folder: Path, tmp_path: Path) -> None:
    started = anyio.Event()
    failure: list[Exception] = []

    async def ask(engine: Engine) -> None:
        await engine.start("a", [])
        try:
            async for event in engine.generate("a", PROMPT, Sampling(max_tokens=8000)):
                if isinstance(event, Token):
                    started.set()
        except Unavailable as error:
            failure.append(error)

    config = EngineConfig(tmp_path, model=str(drawn_folder))
    async with anyio.create_task_group() as tasks, Engine.open(config) as engine:
        tasks.start_soon(ask, engine)
        await started.wait()
    assert [str(error) for error in failure] == ["The model was closed in mid-answer. Ask again."]
    with pytest.raises(Unavailable, match="shutting down"):
        await say(engine, "a", [1])


async def test_caches_of_idle_contexts_make_room_and_come_back(drawn_folder: Path, tmp_path: Path) -> None:
    # 6 layers, 2 heads of 64, float32: 6,144 bytes per token; room for the weights and about 1,000 tokens.
    memory = 2 * 10**9 + 23_740_000 + 6_300_000
    config = EngineConfig(tmp_path, model=str(drawn_folder), memory_bytes=memory + 220_000_000, kv_format="exact")
    async with Engine.open(config) as engine:
        engine._admission.memory_bytes = memory  # pyright: ignore[reportPrivateUsage]
        await engine.start("old", [])
        drawn = (await say(engine, "old", [50] * 600)).ids
        await engine.start("new", [])
        await say(engine, "new", [51] * 600)
        held = {context.name: context.cached_tokens for context in engine.status().contexts}
        assert held["old"] == 0
        assert held["new"] > 600
        assert len((await say(engine, "old", [7])).ids) == 12
        assert engine.ids("old")[: 600 + len(drawn)] == (*[50] * 600, *drawn)
        async with aclosing(engine.generate("old", [], LONG)) as events:
            await anext(events)
            with pytest.raises(OverBudget, match=r"624 tokens of context need"):
                await say(engine, "new", [])

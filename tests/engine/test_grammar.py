"""Calls under a grammar: whatever the model is, what it calls is a tool, with arguments that fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from jsonschema import Draft202012Validator

from engine.chat import Chat
from engine.engine import Engine
from engine.events import Finished
from engine.grammar import Constraint
from engine.sampling import Sampling

RECALL = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "minLength": 1, "maxLength": 4000},
        "k": {"type": "integer", "minimum": 1, "maximum": 100, "default": 10},
        "kind": {"anyOf": [{"enum": ["said", "answered"]}, {"type": "null"}], "default": None},
        "weights": {"type": "object", "additionalProperties": {"type": "number"}},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["query"],
    "additionalProperties": False,
}
REFERRING = {
    "$defs": {"Place": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}},
    "type": "object",
    "properties": {"place": {"$ref": "#/$defs/Place"}},
    "required": ["place"],
}


def tool(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": "", "parameters": schema}}


TOOLS = [tool("recall", RECALL), tool("go-to", REFERRING), tool("status", {"type": "object", "properties": {}})]
SCHEMAS = {entry["function"]["name"]: entry["function"]["parameters"] for entry in TOOLS}


def check(chat: Chat, text: str) -> str:
    """The name of the one call that the text is."""
    reply = chat.parse(text, TOOLS)
    assert reply.errors == ()
    assert len(reply.calls) == 1 and reply.text == ""
    Draft202012Validator(SCHEMAS[reply.calls[0].name]).validate(reply.calls[0].arguments)
    return reply.calls[0].name


async def finished(engine: Engine, context: str, sampling: Sampling) -> Finished:
    await engine.start(context, [])
    prompt = [*engine.chat.turn("user", "Call a tool."), *engine.chat.reply_start()]
    async for event in engine.generate(context, prompt, sampling):
        if isinstance(event, Finished):
            return event
    raise AssertionError("no end")


@pytest.mark.anyio
async def test_an_untrained_model_makes_only_calls_that_parse_and_fit(engine: Engine) -> None:
    grammar = engine.chat.call_grammar(TOOLS, required=True)
    called: set[str] = set()
    for seed in range(12):
        made = await finished(engine, f"a{seed}", Sampling(max_tokens=72, temperature=1.5, seed=seed, calls=grammar))
        assert made.reason == "stop"
        called.add(check(engine.chat, made.text))
    assert len(called) > 1


@pytest.mark.anyio
async def test_contexts_that_decode_together_each_follow_their_own_call(engine: Engine) -> None:
    grammar = engine.chat.call_grammar(TOOLS, required=True)
    made: dict[str, Finished] = {}

    async def one(agent: str, seed: int) -> None:
        made[agent] = await finished(engine, agent, Sampling(max_tokens=60, temperature=1.0, seed=seed, calls=grammar))

    async with anyio.create_task_group() as group:
        for seed in range(3):
            group.start_soon(one, f"a{seed}", seed)
    for result in made.values():
        check(engine.chat, result.text)


@pytest.mark.anyio
async def test_text_without_a_call_is_what_it_would_have_been(engine: Engine) -> None:
    sampling = Sampling(max_tokens=24, temperature=1.0, seed=3)
    free = await finished(engine, "free", sampling)
    bound = await finished(engine, "bound", replace(sampling, calls=engine.chat.call_grammar(TOOLS)))
    assert bound.ids == free.ids


def follow(constraint: Constraint, draw: np.random.Generator, most: int) -> list[int]:
    """Draws ids at random from what is allowed, until the constraint lets go."""
    ids: list[int] = []
    while (allowed := constraint.allowed()) is not None and len(ids) < most:
        ids.append(int(draw.choice(np.flatnonzero(allowed))))
        constraint.took(ids[-1])
    return ids


@pytest.mark.anyio
async def test_a_call_in_the_middle_of_text_is_held_to_its_form_and_text_is_free_before_and_after(
    engine: Engine,
) -> None:
    chat, draw = engine.chat, np.random.default_rng(7)
    grammar = chat.call_grammar(TOOLS)
    assert grammar is not None
    (mark,) = [engine_id for engine_id in range(16) if chat.decode([engine_id]) == "<tool_call>"]
    for _ in range(40):
        constraint = grammar.begin(200)
        for token in chat.encode("I will look it up. "):
            assert constraint.allowed() is None
            constraint.took(token)
        constraint.took(mark)
        ids = follow(constraint, draw, 200)
        assert constraint.allowed() is None
        reply = chat.parse("I will look it up. <tool_call>" + chat.decode(ids), TOOLS)
        assert reply.text == "I will look it up." and len(reply.calls) == 1
        Draft202012Validator(SCHEMAS[reply.calls[0].name]).validate(reply.calls[0].arguments)


@pytest.mark.anyio
async def test_a_mark_of_several_tokens_is_noticed_also_when_a_token_reaches_beyond_it(engine: Engine) -> None:
    grammar = engine.chat.call_grammar(TOOLS)
    assert grammar is not None
    words = grammar.words
    spelled = type(grammar)(
        words, grammar.text.replace("<[5]>", '"]done"'), b"[call:", None, False, grammar.reserve, grammar.closing
    )
    constraint = spelled.begin(100)
    for piece in ("say [", "ca", 'll:{"'):
        for token in engine.chat.encode(piece):
            constraint.took(token)
    ids = follow(constraint, np.random.default_rng(1), 100)
    written = '{"' + engine.chat.decode(ids)
    assert written.endswith("]done")
    call = json.loads(written.removesuffix("]done"))
    Draft202012Validator(SCHEMAS[call["name"]]).validate(call["arguments"])


@pytest.mark.anyio
async def test_a_model_with_another_form_of_calls_stays_free(engine: Engine, drawn_folder: Path) -> None:
    from mlx_lm.tool_parsers import mistral
    from mlx_lm.utils import load_tokenizer

    tokenizer = load_tokenizer(drawn_folder)
    tokenizer._tool_parser = mistral.parse_tool_call
    tokenizer._tool_call_start, tokenizer._tool_call_end = "[TOOL_CALLS]", ""
    assert Chat(tokenizer).call_grammar(TOOLS) is None
    assert engine.chat.call_grammar([]) is None
    assert engine.chat.call_grammar(TOOLS) is engine.chat.call_grammar(list(TOOLS))


STEPS = {
    "$defs": {
        "Step": {
            "type": "object",
            "properties": {
                "task": {"type": "string", "pattern": r"^[^\s\x00-\x1f][^\x00-\x1f]{0,40}$"},
                "place": {"enum": ["home", "hands"]},
                "after": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 8}, "maxItems": 3},
            },
            "required": ["task", "place", "after"],
            "additionalProperties": False,
        }
    },
    "type": "object",
    "properties": {"steps": {"type": "array", "items": {"$ref": "#/$defs/Step"}, "minItems": 1, "maxItems": 4}},
    "required": ["steps"],
    "additionalProperties": False,
}


@pytest.mark.anyio
async def test_a_whole_reply_can_be_held_to_a_schema_and_ends_within_its_tokens(engine: Engine) -> None:
    grammar = engine.chat.document_grammar(STEPS)
    assert engine.chat.document_grammar(STEPS) is grammar
    sizes: set[int] = set()
    for seed in range(8):
        sampling = Sampling(max_tokens=120, temperature=1.5 if seed else 0.0, seed=seed, calls=grammar)
        made = await finished(engine, f"d{seed}", sampling)
        document = json.loads(made.text)
        Draft202012Validator(STEPS).validate(document)
        sizes.add(len(document["steps"]))
    assert len(sizes) > 1

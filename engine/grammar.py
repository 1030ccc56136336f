"""Tool calls that cannot come out wrong: while a call is written, only tokens that keep it valid may be drawn.

Plain text is free. From the mark that opens a call on, the tokens follow a grammar: one of the tools by name, arguments
by its JSON schema, the closing mark. A reply that has to be a document of some JSON schema follows it from its first
token. The grammar is llguidance's; here stands which one, when it applies, and that what is begun is brought to its end
before the reply's tokens run out. Knows nothing of contexts, caches and sampling.

Formats: calls written as JSON between two marks (Hermes, Qwen, and the form that `engine.chat` describes in words to a
model without one of its own). Models that write calls in another form stay free; their calls are parsed, and a broken
one is answered with what is wrong about it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import structlog
from numpy.typing import NDArray

log = structlog.get_logger()

JSON_PARSER = "mlx_lm.tool_parsers.json_tools"
MARKS = ("<tool_call>", "</tool_call>")
"""Around a call, where the model has no marks of its own."""
STYLE = {"item_separator": ", ?", "key_separator": ": ?", "whitespace_flexible": False, "lenient": True}
"""JSON in one line, as templates render it, so that a model cannot go on with blanks for ever. Keywords of a schema
that the grammar does not know are left to the check of the arguments."""
TAIL_BYTES = 64
BRACKETS = b"]}"
INSIDE = "#"
"""A character that JSON allows inside of strings only."""
LONGEST_WORD = 1000
"""Bytes; llguidance 1.9 panics at words of more than 1,024."""
SPARE_TOKENS = 12
"""Room for the values that stand between the names of a call."""

Mask = NDArray[np.bool_]
"""Which ids may come next, shape (the tokenizer's vocabulary,)."""


class Grammars:
    """The grammars of one model. Making the first takes up to a second for a large vocabulary."""

    def __init__(self, tokenizer: Any, stop_ids: frozenset[int]) -> None:
        """`tokenizer` is mlx_lm's wrapper."""
        self._wrapped = tokenizer
        self._stop_ids = stop_ids
        self._words: Any = None
        self._closing: _Closing | None = None
        self._made: dict[tuple[str, bool], CallGrammar] = {}
        self._documents: dict[str, CallGrammar] = {}

    def calls(self, tools: Sequence[dict[str, Any]], *, required: bool = False) -> CallGrammar | None:
        """The grammar of calls to these tools; None where there are none or the model's form of a call is not JSON.

        Args:
            tools: JSON-schema function dicts, `{"type": "function", "function": {...}}`.
            required: the reply is one call and nothing else.
        """
        functions = [cast("dict[str, Any]", tool.get("function", tool)) for tool in tools]
        marks = self._marks()
        if not functions or marks is None:
            return None
        key = (json.dumps(functions, sort_keys=True), required)
        if key not in self._made:
            closing = self._prepared()
            if closing is None:
                return None
            self._made[key] = self._make(functions, marks, required, closing)
        return self._made[key]

    def document(self, schema: Mapping[str, Any]) -> CallGrammar | None:
        """The grammar of a reply that is one JSON document of `schema`; None where the tokenizer cannot be used."""
        key = json.dumps(schema, sort_keys=True)
        closing = self._prepared()
        if closing is None:
            return None
        if key not in self._documents:
            text = f"start: %json {json.dumps({**schema, 'x-guidance': STYLE})}"
            reserve = len(self._words.tokenize_str(json.dumps(_least(schema, schema)))) + SPARE_TOKENS
            self._documents[key] = CallGrammar(self._words, text, b"", None, True, reserve, closing)
        return self._documents[key]

    def _make(
        self, functions: list[dict[str, Any]], marks: tuple[str, str], required: bool, closing: _Closing
    ) -> CallGrammar:
        start, end = marks
        calls = [f"call_{place}" for place in range(len(functions))]
        opening = self._literal(start) if required else ""
        text = "\n".join(
            [
                f"start: {opening} BLANK? ({' | '.join(calls)}) BLANK? {self._literal(end)}",
                "BLANK: /[ \\n]/",
                *(f"{call}: {_call_rule(function)}" for call, function in zip(calls, functions, strict=True)),
            ]
        )
        longest = max((json.dumps(_skeleton(function)) for function in functions), key=len)
        reserve = len(self._words.tokenize_str(start + longest + end)) + SPARE_TOKENS
        return CallGrammar(self._words, text, start.encode(), self._id(start), required, reserve, closing)

    def _marks(self) -> tuple[str, str] | None:
        if not self._wrapped.has_tool_calling:
            return MARKS
        parser = getattr(self._wrapped.tool_parser, "__module__", "")
        start, end = self._wrapped.tool_call_start, self._wrapped.tool_call_end
        return (start, end) if parser == JSON_PARSER and start and end else None

    def _prepared(self) -> _Closing | None:
        """Takes the vocabulary apart; None for a tokenizer that llguidance does not take."""
        if self._words is None:
            from llguidance.hf import from_tokenizer

            # mlx_lm's wrapper keeps the tokenizer of transformers under this name and has no public one.
            inner = self._wrapped._tokenizer
            try:
                if max(len(word.encode()) for word in inner.get_vocab()) > LONGEST_WORD:
                    raise ValueError("its vocabulary has words that are too long")
                self._words = from_tokenizer(inner, eos_token=sorted(self._stop_ids))
            except ValueError as error:
                log.info("calls_unconstrained", reason=str(error))
                return None
            self._closing = _Closing.of(self._words)
        return self._closing

    def _id(self, mark: str) -> int | None:
        """The id of a mark that is one token of its own."""
        found = {str(token.content): int(id_) for id_, token in self._wrapped.added_tokens_decoder.items()}
        return found.get(mark)

    def _literal(self, mark: str) -> str:
        id_ = self._id(mark)
        return json.dumps(mark) if id_ is None else f"<[{id_}]>"


@dataclass(frozen=True, eq=False)
class CallGrammar:
    """How a call is written, or a whole reply; `begin` follows one reply through it. Safe to share between threads."""

    words: Any
    text: str
    mark: bytes
    mark_id: int | None
    required: bool
    reserve: int
    """When so many tokens are left, a call is brought to its end."""
    closing: _Closing

    def begin(self, max_tokens: int) -> Constraint:
        """The constraint of one reply of at most `max_tokens`."""
        return Constraint(self, max_tokens)


@dataclass(frozen=True, eq=False)
class _Closing:
    """The tokens that bring JSON to its end."""

    brackets: Mask
    """Tokens of nothing but closing brackets."""
    quotes: Mask
    """Tokens of a quotation mark, perhaps with closing brackets behind it."""
    inside: int
    """A token that may come next inside of strings only."""

    @classmethod
    def of(cls, words: Any) -> _Closing:
        each: list[bytes] = [words.decode_bytes([token]) for token in range(words.vocab_size)]
        brackets = np.array([bool(word) and not word.strip(BRACKETS) for word in each])
        quotes = np.array([word.startswith(b'"') and not word[1:].strip(BRACKETS) for word in each])
        return cls(brackets, quotes, words.tokenize_str(INSIDE)[-1])

    def narrowed(self, mask: Mask) -> Mask:
        """Of what is allowed, what ends the call soonest. A bracket inside of a string would end nothing."""
        eager = (self.quotes,) if mask[self.inside] else (self.brackets, self.quotes)
        return next((closing for tokens in eager if (closing := mask & tokens).any()), mask)


class Constraint:
    """One reply's way through the grammar. Used by one thread at a time."""

    def __init__(self, grammar: CallGrammar, max_tokens: int) -> None:
        self._grammar = grammar
        self._left = max_tokens
        self._tail = b""
        self._call: Any = None
        self._done = False
        if grammar.required:
            self._enter()

    def allowed(self) -> Mask | None:
        """Which ids may come next; None when all may."""
        if self._done:
            return self._only(self._grammar.words.eos_tokens)
        if self._call is None:
            return None
        # What the grammar leaves no choice about is taken in the tokens that the model itself would have written.
        if forced := self._call.compute_ff_tokens():
            return self._only(forced[:1])
        mask = np.unpackbits(np.frombuffer(self._call.compute_bitmask(), np.uint8), bitorder="little").astype(bool)
        mask = mask[: self._grammar.words.vocab_size]
        if self._left <= self._grammar.reserve:
            return self._grammar.closing.narrowed(mask)
        return mask

    def over(self, logprobs: Any) -> Any:
        """Log-probabilities of what is allowed, from those of all: lazy MLX arrays `(1, vocabulary)`."""
        allowed = self.allowed()
        if allowed is None:
            return logprobs
        from engine.backend import mx

        # A model may have more rows of logits than its tokenizer has words, or fewer.
        mask = np.zeros(logprobs.shape[-1], bool)
        mask[: len(allowed)] = allowed[: len(mask)]
        logprobs = mx.where(mx.array(mask), logprobs, -mx.inf)
        return logprobs - mx.logsumexp(logprobs, axis=-1, keepdims=True)

    def took(self, token: int) -> None:
        """Takes in what was drawn."""
        self._left -= 1
        if self._done:
            return
        if self._call is not None:
            self._step(token)
        elif token == self._grammar.mark_id:
            self._enter()
        elif self._grammar.mark_id is None and self._grammar.mark:
            self._listen(token)

    def _listen(self, token: int) -> None:
        """Looks for a mark that is written in several tokens, the last of which may reach beyond it."""
        words = self._grammar.words
        self._tail = (self._tail + words.decode_bytes([token]))[-TAIL_BYTES:]
        _, found, beyond = self._tail.partition(self._grammar.mark)
        if found:
            self._tail = b""
            self._enter()
            for piece in words.tokenize_bytes(beyond):
                if self._call is not None:
                    self._step(piece)

    def _enter(self) -> None:
        from llguidance import LLMatcher

        self._call = LLMatcher(self._grammar.words, self._grammar.text, log_level=0)
        if self._call.is_error():
            log.warning("calls_unconstrained", reason=self._call.get_error())
            self._call = None

    def _step(self, token: int) -> None:
        self._call.consume_token(token)
        if self._call.is_error():
            # Only by what stood behind the mark in its own token. The call is parsed, and answered with what is wrong.
            self._call = None
        elif self._call.is_stopped():
            self._call = None
            self._done = self._grammar.required

    def _only(self, ids: Sequence[int]) -> Mask:
        mask = np.zeros(self._grammar.words.vocab_size, bool)
        mask[list(ids)] = True
        return mask


def _call_rule(function: dict[str, Any]) -> str:
    """One tool's call. The arguments' schema stays a document of its own, so that its references hold."""
    schema = {**(function.get("parameters") or {"type": "object"}), "x-guidance": STYLE}
    head = [json.dumps('{"name":'), json.dumps(f"{json.dumps(function['name'])},"), json.dumps('"arguments":')]
    return f'{" BLANK? ".join(head)} BLANK? %json {json.dumps(schema)} "}}"'


def _skeleton(function: dict[str, Any]) -> dict[str, Any]:
    """A call with an empty value for each argument that must be there."""
    required = (function.get("parameters") or {}).get("required", ())
    return {"name": function["name"], "arguments": dict.fromkeys(required, "")}


def _least(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """About the longest of the shortest documents of a schema: what must be there, once."""
    if "$ref" in schema:
        return _least(root["$defs"][str(schema["$ref"]).rpartition("/")[2]], root)
    if "enum" in schema:
        return max(schema["enum"], key=lambda one: len(json.dumps(one)))
    match schema.get("type"):
        case "object":
            return {name: _least(schema["properties"][name], root) for name in schema.get("required", ())}
        case "array":
            return [_least(schema["items"], root)] * int(schema.get("minItems", 0))
        case "integer" | "number":
            return schema.get("minimum", 0)
        case _:
            return "x" * int(schema.get("minLength", 3))

"""Turns of a conversation as token ids, one at a time, in the model's own format.

Knows roles, tools and replies; the format comes from `engine.template`. Two promises: a turn is rendered alone, so that
nothing rendered before it ever changes; and text from outside can never become a control token, whatever it holds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from engine.errors import InvalidInput
from engine.template import Template, Vocabulary

if TYPE_CHECKING:
    from engine.grammar import CallGrammar, Grammars

Role = Literal["user", "tool", "assistant"]

ACKNOWLEDGED = "Understood."
"""What the assistant is made to say after a system text that had to be told as a user turn."""
TOOLS_IN_WORDS = """\
You may call these tools. To call one, write a line of this form and wait for the result:
<tool_call>{"name": "tool name", "arguments": {"argument": "value"}}</tool_call>"""


@dataclass(frozen=True)
class ToolCall:
    """A call as the model wrote it. Whether the tool exists and the arguments fit is for the caller to check."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """A reply taken apart. `errors` are calls that did not parse, in words."""

    text: str
    calls: tuple[ToolCall, ...]
    errors: tuple[str, ...]
    thinking: str = ""


class Chat:
    """Renders and parses for one model. Cheap calls, safe from any thread; nothing of MLX in it."""

    def __init__(self, tokenizer: Any, name: str = "the model") -> None:
        """`tokenizer` is mlx_lm's wrapper. Raises InvalidInput for a model without a chat template."""
        if not tokenizer.has_chat_template:
            raise InvalidInput(
                f"{name} has no chat template: it is a base model that was never taught to converse.",
                "Choose its instruct or chat variant.",
            )
        self._tokenizer = tokenizer
        self._words = Vocabulary(tokenizer)
        self._template = Template(tokenizer, self._words, name)
        thought = tokenizer.think_start_tokens
        self._begins_thinking = bool(thought) and tokenizer.rfind_think_start(self.reply_start()) >= 0
        self.stop_ids: frozenset[int] = frozenset(tokenizer.eos_token_ids) | self._template.closing_ids
        self._grammars: Grammars | None = None

    def count(self, text: str) -> int:
        """How many tokens `text` is, as plain text."""
        return len(self.encode(text))

    def encode(self, text: str) -> list[int]:
        """Plain text to ids. Never a control token: `<|im_end|>` in the text is encoded as the characters it is."""
        return self._words.plain(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Ids to text, control tokens shown as they are written."""
        return cast(str, self._tokenizer.decode(list(ids)))

    def opening(self, system: str, tools: Sequence[dict[str, Any]] = ()) -> list[int]:
        """The start of a context: what the model expects first, the system text, and the tools it may call.

        Args:
            tools: JSON-schema function dicts, `{"type": "function", "function": {...}}`.

        A template without a system role gets the system text as a first user turn, acknowledged in one word, so that
        roles alternate as it was trained; one without tools gets them described in words within the system text.
        """
        if tools and not self._template.knows_tools:
            system = "\n\n".join(part for part in (system, _in_words(tools)) if part)
            tools = ()
        if self._template.knows_system or not system:
            return self._words.ids(self._template.opening(system, tools))
        return [
            *self._words.ids(self._template.opening("", tools)),
            *self.turn("user", system),
            *self.turn("assistant", ACKNOWLEDGED),
        ]

    def turn(self, role: Role, text: str, name: str | None = None) -> list[int]:
        """One whole closed turn. `name` is the tool's, for the role `tool`."""
        if role == "tool":
            if self._template.tool is None:
                role, text = "user", f"Result of {name or 'the tool'}:\n{text}"
            else:
                return self._words.ids(self._template.tool.around(text, name or "tool"))
        if role == "user":
            return self._words.ids(self._template.user.around(text))
        frame = self._template.told
        if frame != self._template.assistant:
            return self._words.ids(frame.around(text))
        # In three pieces, as generating makes it: the prompt and the reply are never encoded together.
        return [*self.reply_start(), *self.encode(text), *self._words.ids(frame.after)]

    def reply_start(self) -> list[int]:
        """The generation prompt: what stands before the assistant's first own token."""
        return self._words.ids(self._template.assistant.before)

    def reply_end(self, sampled: Sequence[int]) -> list[int]:
        """What is missing to close the assistant's turn after these sampled ids: all of it when the reply broke off."""
        missing = self._words.ids(self._template.assistant.after)
        thinking = self._open_thought(sampled)
        if sampled and sampled[-1] in self.stop_ids:
            closing = next((place for place, token in enumerate(missing) if token in self.stop_ids), None)
            return missing if closing is None else missing[closing + 1 :]
        return [*thinking, *missing]

    def parse(self, text: str, tools: Sequence[dict[str, Any]] = ()) -> Reply:
        """Takes a reply apart: what it says, which tools it calls, and which calls could not be read.

        Calls are read by mlx_lm's parser for the model's format; without one, as `<tool_call>` JSON (the form that
        `opening` describes) or, when the whole reply is one JSON object that names a known tool, as that call.
        """
        thinking, text = self._without_thoughts(text)
        start = self._tokenizer.tool_call_start or "<tool_call>"
        end = self._tokenizer.tool_call_end if self._tokenizer.has_tool_calling else "</tool_call>"
        parser = cast(Callable[[str, Any], Any], self._tokenizer.tool_parser or _json_call)
        said: list[str] = []
        calls: list[ToolCall] = []
        errors: list[str] = []
        rest = text
        while (at := rest.find(start)) >= 0:
            said.append(rest[:at])
            written = rest[at + len(start) :]
            body, closed, rest = written.partition(end) if end else (written, "", "")
            if end and not closed:
                errors.append(f"the call was not closed with {end}: {_short(body)}")
                break
            try:
                calls.extend(_calls(parser(body, list(tools))))
            except Exception as error:  # each of the parsers raises what it likes
                errors.append(f"{_reason(error)}: {_short(body)}")
        said.append(rest)
        plain = "".join(said).strip()
        if not calls and not errors and (bare := _bare_call(plain, tools)):
            return Reply("", (bare,), (), thinking)
        return Reply(plain, tuple(calls), tuple(errors), thinking)

    def call_grammar(self, tools: Sequence[dict[str, Any]], *, required: bool = False) -> CallGrammar | None:
        """What keeps the calls of a reply valid (`Sampling.calls`), or None for a model that writes them otherwise.

        The first one takes up to a second for a large vocabulary; the same tools get the same one again.
        """
        return self._constraints().calls(tools, required=required)

    def document_grammar(self, schema: Mapping[str, Any]) -> CallGrammar | None:
        """What keeps a reply one JSON document of `schema` (`Sampling.calls`), or None for a tokenizer without any."""
        return self._constraints().document(schema)

    def _constraints(self) -> Grammars:
        if self._grammars is None:
            from engine.grammar import Grammars

            self._grammars = Grammars(self._tokenizer, self.stop_ids)
        return self._grammars

    def _open_thought(self, sampled: Sequence[int]) -> list[int]:
        """The ids that end a thought which broke off, so that what follows is not taken for more of it."""
        tokenizer = self._tokenizer
        if not tokenizer.has_thinking or not sampled:
            return []
        ids = list(sampled)
        opened = tokenizer.rfind_think_start(ids)
        closed = tokenizer.rfind_think_end(ids)
        still = opened > closed or (self._begins_thinking and closed < 0)
        return list(tokenizer.think_end_tokens) if still else []

    def _without_thoughts(self, text: str) -> tuple[str, str]:
        """(thinking, the rest). A reply may begin inside a thought that the generation prompt opened."""
        if not self._tokenizer.has_thinking:
            return "", text
        start, end = self._tokenizer.think_start, self._tokenizer.think_end
        before, closed, after = text.rpartition(end)
        if not closed:
            head, opened, tail = text.partition(start)
            if opened:
                return tail.strip(), head
            return (text.strip(), "") if self._begins_thinking else ("", text)
        return before.replace(start, "").replace(end, "").strip(), after


def _in_words(tools: Sequence[dict[str, Any]]) -> str:
    lines = [TOOLS_IN_WORDS, *(json.dumps(tool.get("function", tool), ensure_ascii=False) for tool in tools)]
    return "\n".join(lines)


def _json_call(text: str, _tools: Any = None) -> Any:
    return json.loads(text.strip())


def _calls(parsed: Any) -> list[ToolCall]:
    """What a parser returned: one call or several. Raises ValueError for what is none."""
    calls: list[ToolCall] = []
    for call in parsed if isinstance(parsed, list) else [parsed]:
        if not isinstance(call, dict):
            raise ValueError("a call must be a JSON object with name and arguments")
        name = call.get("name")
        arguments = call.get("arguments", call.get("parameters", {}))
        if isinstance(arguments, str):
            arguments = json.loads(arguments)
        if not isinstance(name, str) or not name:
            raise ValueError("the call names no tool")
        if not isinstance(arguments, dict):
            raise ValueError(f"the arguments of {name} are not a JSON object")
        calls.append(ToolCall(name, cast(dict[str, Any], arguments)))
    return calls


def _bare_call(text: str, tools: Sequence[dict[str, Any]]) -> ToolCall | None:
    """A reply that is nothing but the JSON of a call to a known tool, as Llama 3 writes it."""
    if not (text.startswith("{") and text.endswith("}")):
        return None
    try:
        calls = _calls(json.loads(text))
    except ValueError:
        return None
    known = {str(tool.get("function", tool).get("name")) for tool in tools}
    return calls[0] if calls[0].name in known else None


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"the call is not valid JSON ({error.msg} at character {error.pos})"
    return str(error) or type(error).__name__


def _short(text: str, limit: int = 200) -> str:
    text = text.strip()
    return text if len(text) <= limit else f"{text[:limit]}…"

"""A model's chat template, taken apart once into the frames that stand around each kind of turn.

Templates render whole conversations, and most change what stands in front when more is added. Here small conversations
with marked texts are rendered when the model is loaded, and what stands around the marks is cut out: before and after a
user's, a tool's and the assistant's text. A frame is a list of pieces: ids of control tokens, and literal text.

Knows jinja output and control tokens; does not know what is said.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import structlog

from engine.errors import InvalidInput

log = structlog.get_logger()

Piece = int | str
"""A control token's id, or text that is encoded as plain text."""
Messages = list[dict[str, Any]]

HTML_TAG = re.compile(r"</?[a-z][a-z0-9]{0,9}>")


class Vocabulary:
    """Which ids are control tokens, and how plain text is encoded without ever hitting one."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        markers = {tokenizer.tool_call_start, tokenizer.tool_call_end, tokenizer.think_start, tokenizer.think_end}
        template = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else ""
        self.control: dict[str, int] = {}
        for token, added in cast(dict[int, Any], tokenizer.added_tokens_decoder).items():
            text = str(added.content)
            if text and (added.special or text in markers or not _harmless(text, template)):
                self.control[text] = int(token)
        self._control_ids = frozenset(self.control.values())
        longest_first = sorted(self.control, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
        self._plain = self._plain_backend()

    def plain(self, text: str) -> list[int]:
        """Encodes text as nothing but text."""
        if not text:
            return []
        # A lone surrogate (half of a broken character) cannot be encoded; the replacement character can.
        text = text.encode("utf-8", "replace").decode("utf-8") if not text.isascii() else text
        ids = self._raw(text)
        if self._control_ids.isdisjoint(ids):
            return ids
        if len(text) == 1:
            raise InvalidInput(f"The character {text!r} cannot be written for this model.", "Leave it out.")
        # The vocabulary itself holds the control token as a piece of text: encode its halves.
        return [*self.plain(text[: len(text) // 2]), *self.plain(text[len(text) // 2 :])]

    def pieces(self, literal: str) -> list[Piece]:
        """Splits a template's own output at its control tokens."""
        if self._pattern is None:
            return [literal] if literal else []
        pieces: list[Piece] = []
        at = 0
        for match in self._pattern.finditer(literal):
            if match.start() > at:
                pieces.append(literal[at : match.start()])
            pieces.append(self.control[match.group()])
            at = match.end()
        if at < len(literal):
            pieces.append(literal[at:])
        return pieces

    def ids(self, pieces: Sequence[Piece]) -> list[int]:
        """Encodes pieces; neighbouring texts are joined first, so that words merge as in the template itself."""
        ids: list[int] = []
        text = ""
        for piece in [*pieces, -1]:
            if isinstance(piece, str):
                text += piece
                continue
            ids.extend(self.plain(text))
            text = ""
            if piece >= 0:
                ids.append(piece)
        return ids

    def _raw(self, text: str) -> list[int]:
        if self._plain is not None:
            return list(self._plain.encode(text, add_special_tokens=False).ids)
        return list(self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True))

    def _plain_backend(self) -> Any:
        """The tokenizer without its control tokens, which then cannot come out of it; None for a slow tokenizer."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            return None
        from tokenizers import Tokenizer

        content = json.loads(backend.to_str())
        # Added tokens are numbered in their order behind the model's own vocabulary. One of these is made unspeakable
        # instead of being left out, so that those behind it keep their ids.
        own = _own_words(content["model"])
        secret = secrets.token_hex(16)
        kept: list[dict[str, Any]] = []
        for token in content.get("added_tokens", ()):
            if token["content"] not in self.control:
                kept.append(token)
            elif token["content"] not in own:
                kept.append(token | {"content": f"{secret}{token['id']}"})
        content["added_tokens"] = kept
        content["post_processor"] = None
        content["truncation"] = content["padding"] = None
        for part in _parts(content.get("pre_tokenizer")):
            # "first" marks the start of a conversation with a space, and a turn is never that.
            if part.get("type") == "Metaspace" and part.get("prepend_scheme") == "first":
                part["prepend_scheme"] = "never"
        return Tokenizer.from_str(json.dumps(content))


@dataclass(frozen=True)
class Frame:
    """What stands before and after a turn's text; `quoted` texts stand inside a JSON string."""

    before: tuple[Piece, ...]
    after: tuple[Piece, ...]
    quoted: bool = False
    name_mark: str = ""

    def around(self, text: str, name: str = "") -> list[Piece]:
        """The turn. `name` replaces the mark that was rendered in a tool's name's place."""
        written = json.dumps(text, ensure_ascii=False)[1:-1] if self.quoted else text
        return [*self._named(self.before, name), written, *self._named(self.after, name)]

    def _named(self, pieces: Sequence[Piece], name: str) -> list[Piece]:
        if not self.name_mark:
            return list(pieces)
        return [piece.replace(self.name_mark, name) if isinstance(piece, str) else piece for piece in pieces]


class Template:
    """The frames of one model."""

    def __init__(self, tokenizer: Any, words: Vocabulary, name: str) -> None:
        self._tokenizer = tokenizer
        self._words = words
        self._mark = f"mark{secrets.token_hex(6)}x"
        one, two, three = (f"{self._mark}{place}" for place in "abc")
        try:
            asked = self._render([_user(one)])
            prompted = self._render([_user(one)], prompt=True)
            talk = self._render([_user(one), _assistant(two), _user(three)])
            answered = self._render([_user(one), _assistant(two)])
            self._head, user_after = _split(asked, one)
            prompt = _split(prompted, one)[1].removeprefix(user_after)
            told_before, closing = _split(_split(answered, one)[1].removeprefix(user_after), two)
            user_before = _split(talk, two)[1].partition(three)[0].removeprefix(closing)
        except (ValueError, AssertionError) as error:
            raise InvalidInput(
                f"The chat template of {name} cannot be used: {error}.",
                "Choose another conversion of the model, with a chat template for user and assistant turns.",
            ) from error
        self._user_before = user_before
        self._start = self._head.removesuffix(user_before)
        pieces = words.pieces
        self.user = Frame(tuple(pieces(user_before)), tuple(pieces(user_after)))
        self.assistant = Frame(tuple(pieces(prompt)), tuple(pieces(closing)))
        # What the assistant is told to have said may stand in another frame than what it says: without a thought.
        self.told = Frame(tuple(pieces(told_before)), tuple(pieces(closing)))
        self.tool = self._tool_frame()
        self.knows_system = self._opens("system text", ()) is not None
        self.knows_tools = self._sees_tools()
        # What ends the assistant's turn ends a reply, also where the config names another end-of-sequence token only.
        # Without it a model would go on and play the user.
        solid = [piece for piece in self.assistant.after if isinstance(piece, int) or piece.strip()]
        self.closing_ids = frozenset(piece for piece in solid[:1] if isinstance(piece, int))

    def opening(self, system: str, tools: Sequence[dict[str, Any]]) -> list[Piece]:
        """What stands before the first user turn. Only called with what the template is known to render."""
        rendered = self._opens(system, tools)
        assert rendered is not None, "the template renders a system text for a trial but not this one"
        return rendered

    def _opens(self, system: str, tools: Sequence[dict[str, Any]]) -> list[Piece] | None:
        """The opening as pieces, or None when the template has no place for it in front of the first user turn."""
        user, mine = f"{self._mark}u", f"{self._mark}s"
        shield = _Shield(self._mark, self._words.control)
        messages = [*([{"role": "system", "content": mine}] if system else []), _user(user)]
        try:
            head = _split(self._render(messages, tools=shield.over(list(tools)) if tools else None), user)[0]
        except ValueError:
            return None
        if not head.endswith(self._user_before) or (system and mine not in head):
            return None
        pieces: list[Piece] = []
        for piece in self._words.pieces(head.removesuffix(self._user_before)):
            pieces.append(shield.lifted(piece).replace(mine, system) if isinstance(piece, str) else piece)
        return pieces

    def _sees_tools(self) -> bool:
        trial = {"type": "function", "function": {"name": f"{self._mark}t", "description": "a", "parameters": {}}}
        found = self._opens("system text" if self.knows_system else "", [trial])
        return found is not None and any(isinstance(piece, str) and f"{self._mark}t" in piece for piece in found)

    def _tool_frame(self) -> Frame | None:
        """The frame around a tool's result, or None for a template without that role."""
        user, said, result, name = (f"{self._mark}{place}" for place in "urtn")
        for with_quote in ('"', ""):
            call = {"type": "function", "id": "call00000", "function": {"name": name, "arguments": {}}}
            asked: Messages = [_user(user), {"role": "assistant", "content": said, "tool_calls": [call]}]
            answer = {"role": "tool", "name": name, "tool_call_id": "call00000", "content": result + with_quote}
            try:
                alone = self._render(asked)
                before, after = _split(self._render([*asked, answer]), result)
            except ValueError:
                continue
            shared = _shared_prefix(alone, before)
            quoted = after.startswith('\\"')
            after = after.removeprefix("\\" if quoted else "").removeprefix(with_quote)
            head = self._words.pieces(before[shared:])
            return Frame(tuple(head), tuple(self._words.pieces(after)), quoted, name)
        return None

    def _render(self, messages: Messages, *, tools: Any = None, prompt: bool = False) -> str:
        """The template's text. Raises ValueError for whatever it objects to."""
        try:
            return cast(
                str,
                self._tokenizer.apply_chat_template(
                    messages,
                    tools=tools,
                    tokenize=False,
                    add_generation_prompt=prompt,
                    # Llama 3 puts tools into the first user turn unless told otherwise, where they would be told anew.
                    tools_in_user_message=False,
                ),
            )
        except Exception as error:  # jinja, and whatever a template raises by itself
            raise ValueError(str(error) or type(error).__name__) from error


class _Shield:
    """Hides control tokens that stand in tool descriptions, so that rendering cannot make them real."""

    def __init__(self, mark: str, control: dict[str, int]) -> None:
        self._hidden = {f"{mark}k{place}k": text for place, text in enumerate(sorted(control, key=len, reverse=True))}

    def over(self, value: Any) -> Any:
        if isinstance(value, str):
            for mark, text in self._hidden.items():
                value = value.replace(text, mark)
            return value
        if isinstance(value, dict):
            return {self.over(key): self.over(inner) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.over(inner) for inner in value]
        return value

    def lifted(self, text: str) -> str:
        for mark, hidden in self._hidden.items():
            text = text.replace(mark, hidden)
        return text


def _user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def _assistant(content: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def _split(rendered: str, mark: str) -> tuple[str, str]:
    before, found, after = rendered.partition(mark)
    if not found:
        raise ValueError("it leaves a turn's text out")
    return before, after


def _shared_prefix(left: str, right: str) -> int:
    shared = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        shared += 1
    return shared


def _harmless(text: str, template: str) -> bool:
    """An added token that is mere text: runs of blanks, and HTML tags that the template gives no meaning."""
    return text.isspace() or (HTML_TAG.fullmatch(text) is not None and text not in template)


def _own_words(model: dict[str, Any]) -> frozenset[str]:
    """The vocabulary that the tokenizer's model itself has: a dictionary, or pairs of word and score."""
    vocabulary = model.get("vocab") or ()
    return frozenset(vocabulary if isinstance(vocabulary, dict) else (str(entry[0]) for entry in vocabulary))


def _parts(node: Any) -> list[dict[str, Any]]:
    """A pre-tokenizer and, for a sequence of them, each of its parts."""
    if not isinstance(node, dict):
        return []
    return [node, *(part for inner in node.get("pretokenizers", ()) for part in _parts(inner))]

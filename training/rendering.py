"""Scenes as token ids with a mask of what is learned, rendered by the running house's own `Chat`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.chat import Chat
from engine.seedling.template import CONTROL
from training.scenes import Line, Scene, functions

CALL, CALLED = "<tool_call>", "</tool_call>"


@dataclass(frozen=True)
class Rendered:
    """`learned` has one entry per id: True for what the assistant says, its closing mark included."""

    ids: tuple[int, ...]
    learned: tuple[bool, ...]


def tools_of(scene: Scene) -> list[dict[str, Any]]:
    """The descriptions of the tools that the scene's opening offers."""
    return [functions()[name] for name in scene.tools]


def said(line: Line) -> str:
    """What the assistant writes for a line: its words, or a call in the seedling's own form."""
    if line.call is None:
        return line.text
    name, arguments = line.call
    body = json.dumps({"name": name, "arguments": dict(arguments)}, ensure_ascii=False)
    return f"<tool_call>\n{body}\n</tool_call>"


def before(chat: Chat, scene: Scene, lines: Sequence[Line]) -> list[int]:
    """Ids of the opening and of whole turns, as the engine would hold them."""
    return [*chat.opening(scene.system, tools_of(scene)), *(one for line in lines for one in _turn(chat, line)[0])]


def rendered(chat: Chat, scene: Scene) -> Rendered:
    """The whole scene."""
    ids = chat.opening(scene.system, tools_of(scene))
    learned = [False] * len(ids)
    for line in scene.lines:
        turn, start = _turn(chat, line)
        ids = [*ids, *turn]
        learned += [line.role == "assistant" and place >= start for place in range(len(turn))]
    return Rendered(tuple(ids), tuple(learned))


def _turn(chat: Chat, line: Line) -> tuple[list[int], int]:
    """(ids of the turn, where what the assistant says begins)."""
    if line.role != "assistant":
        return chat.turn(line.role, line.text, line.name or None), 0
    start = chat.reply_start()
    if line.call is None:
        words = chat.encode(line.text)
    else:
        body = said(line).removeprefix(CALL).removesuffix(CALLED)
        words = [CONTROL.index(CALL), *chat.encode(body), CONTROL.index(CALLED)]
    return [*start, *words, *chat.reply_end([])], len(start)

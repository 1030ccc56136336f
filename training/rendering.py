"""Examples as token ids with a mask of what is learned, rendered by the running house's own `Chat`."""

from __future__ import annotations

from dataclasses import dataclass

from engine.chat import Chat
from training.examples import Example


@dataclass(frozen=True)
class Rendered:
    """`learned` has one entry per id: True for what the assistant says, its closing mark included."""

    ids: tuple[int, ...]
    learned: tuple[bool, ...]


def rendered(chat: Chat, example: Example) -> Rendered:
    """The ids as the engine would hold them after this turn."""
    asked = [*chat.opening(example.system), *chat.turn("user", example.user), *chat.reply_start()]
    said = [*chat.encode(example.reply), *chat.reply_end([])]
    return Rendered((*asked, *said), (*(False for _ in asked), *(True for _ in said)))

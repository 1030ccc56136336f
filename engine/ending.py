"""How a request ends, as the event loop sees it: the context is free again, and errors are put into words."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio

from engine.errors import OverBudget, SoulError, Unavailable
from engine.events import Event, Finished

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectSendStream

    from engine.contexts import Context


class Ending:
    """The end of a request, as the event loop sees it: one callback frees the context and hands out the last event.

    In one, so that a caller who has the last event finds the context free, even when it does not close its iterator.
    """

    def __init__(
        self,
        context: Context,
        stream: MemoryObjectSendStream[Event] | None = None,
        after: Callable[[Context], None] = lambda _: None,
    ) -> None:
        self._context = context
        self._stream = stream
        self._after = after
        self.done = anyio.Event()
        self.error: Exception | None = None

    def settle(self, error: Exception | None, finished: Finished | None = None) -> None:
        self.error = error
        self._context.busy = False
        if self._stream is not None:
            if finished is not None:
                self._stream.send_nowait(finished)
            self._stream.close()
        self.done.set()
        self._after(self._context)


def in_words(error: Exception) -> SoulError:
    """What a step on the compute thread raised, as fact and remedy."""
    if isinstance(error, SoulError):
        return error
    if isinstance(error, MemoryError) or "allocate" in str(error) or "out of memory" in str(error).lower():
        return OverBudget(
            f"Memory ran out while computing: {error}.", "Use a smaller `context_tokens` or model; the context is kept."
        )
    return Unavailable(
        f"The model failed while computing: {type(error).__name__}: {error}.",
        "Ask again: the context is computed anew from its ids. If it fails again, see logs/daemon.log.",
    )

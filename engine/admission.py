"""What may run: ids of this vocabulary, contexts within their length, caches within the memory.

Knows limits and figures; changes nothing. Refuses before anything is computed, so that memory never runs out in the
middle of an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from engine.budget import GB, Zone, usable, zone
from engine.errors import InvalidInput, OverBudget
from engine.events import ModelInfo

if TYPE_CHECKING:
    from engine.contexts import Context


class Admission:
    """The limits of one loaded model on this machine."""

    def __init__(
        self, info: ModelInfo, memory_bytes: int, token_bytes: int, beside: Callable[[], int] = lambda: 0
    ) -> None:
        """`beside`: bytes that other models and their caches hold."""
        self._info = info
        self.memory_bytes = memory_bytes
        self._token_bytes = token_bytes
        self._beside = beside

    @property
    def limit_bytes(self) -> int:
        """The red line: weights and caches together stay below it."""
        return usable(self.memory_bytes)

    def zone(self, kv_bytes: int) -> Zone:
        """Where the weights and this much cache stand, with what other models hold."""
        return zone(self._info.bytes + kv_bytes + self._beside(), self.memory_bytes)

    def ids(self, ids: Sequence[int]) -> None:
        """Raises InvalidInput for ids that are not of this model's vocabulary."""
        if ids and not 0 <= min(ids) <= max(ids) < self._info.vocabulary:
            raise InvalidInput(
                f"Ids from {min(ids)} to {max(ids)} were given; the vocabulary of {self._info.name} ends at "
                f"{self._info.vocabulary - 1}.",
                "Encode with this engine's own `chat`; ids of another model mean nothing here.",
            )

    def length(self, context: Context, more: int) -> None:
        """Raises OverBudget when the context would be longer than it may be."""
        total = len(context.ids) + more
        if total > self._info.context_tokens:
            raise OverBudget(
                f"The context {context.name} would have {total} tokens; {self._info.name} has room for "
                f"{self._info.context_tokens} here.",
                "Shorten the request, or flush the window; a higher `context_tokens` helps where the model allows it.",
            )

    def over(self, tokens: int, others: Iterable[Context]) -> int:
        """Bytes beyond the red line with `tokens` of context, even without the caches of the others that are idle."""
        busy = sum(context.kv_bytes for context in others if context.busy)
        return self._info.bytes + self._needed(tokens) + busy + self._beside() - self.limit_bytes

    def _needed(self, tokens: int) -> int:
        return min(tokens, self._info.context_tokens) * self._token_bytes

    def room(self, tokens: int, others: Iterable[Context]) -> list[Context]:
        """Which of the other contexts must give their caches up, longest unused first, so that `tokens` fit.

        Raises OverBudget, with the figures, when they do not fit beside those that are running.
        """
        needed, beside = self._needed(tokens), self._beside()
        held = {context: context.kv_bytes for context in sorted(others, key=lambda context: context.used)}
        freed: list[Context] = []
        over = self._info.bytes + needed + sum(held.values()) + beside - self.limit_bytes
        for context in list(held):
            if over <= 0:
                break
            if not context.busy and held[context]:
                over -= held.pop(context)
                freed.append(context)
        if over > 0:
            raise OverBudget(
                f"{tokens} tokens of context need {needed / GB:.2f} GB beside {self._info.bytes / GB:.2f} GB of "
                f"weights, {sum(held.values()) / GB:.2f} GB of running contexts and {beside / GB:.2f} GB of other "
                f"models; {self.limit_bytes / GB:.2f} GB are usable.",
                "Wait for the running answers, shorten the request, or lower `context_tokens`.",
            )
        return freed

"""A verdict from the Director: one choice among words by their probability, then the reason in its own words.

Knows how a model is asked for a choice; does not know what follows from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.events import Finished
from engine.sampling import Sampling

if TYPE_CHECKING:
    from engine.engine import Engine

REASON_TOKENS = 96


@dataclass(frozen=True)
class Judgement:
    """`probabilities` are those of the options, in their order, and sum to 1.

    `binding` is False where the model is a stand-in: its choice is shown, and a person decides.
    """

    choice: str
    probabilities: dict[str, float]
    reason: str
    binding: bool
    by: str

    @property
    def words(self) -> str:
        """The choice with the probability of each option, for a person."""
        return f"{self.choice} ({', '.join(f'{name} {p:.2f}' for name, p in self.probabilities.items())})"


async def judge(
    engine: Engine, context: str, opening: Sequence[int], question: str, options: Sequence[str]
) -> Judgement:
    """Asks for one of `options` in a side context that is dropped afterwards; the agent's own window stays as it is."""
    chat = engine.chat
    asked = [*opening, *chat.turn("user", question), *chat.reply_start()]
    try:
        await engine.start(context, asked, lasting=False)
        weights = await engine.choose(context, [], [chat.encode(option) for option in options])
        choice = max(zip(weights, options, strict=True))[1]
        said = chat.encode(f"{choice}\n")
        reason = ""
        tokens = REASON_TOKENS if engine.info.trained else REASON_TOKENS // 4
        async for event in engine.generate(context, said, Sampling(max_tokens=tokens)):
            if isinstance(event, Finished):
                reason = chat.parse(event.text, []).text.strip()
    finally:
        await engine.drop(context)
    return Judgement(
        choice, dict(zip(options, weights, strict=True)), reason, engine.info.trusted, f"director ({engine.info.name})"
    )

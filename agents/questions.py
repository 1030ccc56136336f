"""What the Director is asked when it has to choose: each question in words, what comes from outside behind the fence.

Pure functions of the texts, so that what is asked at work and what a model is taught by are the same words.
"""

from __future__ import annotations

from collections.abc import Sequence

from agents.fence import fenced, shortened

REVIEW_CHARACTERS = 8_000
REVIEW = ("accept", "revise", "reject")
OBJECT = ("proceed", "object")
MET = ("done", "escalate")
MATTERS = ("matters", "noise")
RATIFY = ("ratify", "refuse")


def bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines) or "- (none)"


def review(
    number: int,
    task: str,
    constraints: Sequence[str],
    acceptance: Sequence[str],
    outcome: str,
    artifacts: Sequence[str],
) -> str:
    """About attempt `number` on a work order: one of REVIEW."""
    return (
        f"Review attempt {number} on your work order.\n\nTask: {task}\n"
        f"Constraints:\n{bullets(constraints)}\nAcceptance criteria:\n{bullets(acceptance)}\n\n"
        f"{fenced(shortened(outcome, REVIEW_CHARACTERS), 'outcome reported by the Hands')}\n"
        f"{fenced(shortened(chr(10).join(artifacts) or '(none named)', 2_000), 'artifacts named by the Hands')}\n\n"
        "Do the criteria hold? Answer accept, revise or reject, then why in one or two sentences."
    )


def leaving(hands: str, task: str, constraints: Sequence[str], acceptance: Sequence[str], context: str) -> str:
    """About an order that is about to leave the house: one of OBJECT."""
    return (
        f"This work order is about to go to {hands}, who cannot ask back.\n\nTask: {task}\n"
        f"Constraints:\n{bullets(constraints)}\nAcceptance criteria:\n{bullets(acceptance)}\n\n"
        f"{fenced(shortened(context, REVIEW_CHARACTERS), 'context given with the order')}\n\n"
        "Is it clear, harmless, and fit to leave the house? Answer proceed or object, then why in one sentence."
    )


def met(task: str, acceptance: str, role: str, outcome: str) -> str:
    """About a step that was done at home: one of MET."""
    return (
        f"An agent of this house worked on a step of a plan.\n\nTask: {task}\nDone when: {acceptance}\n\n"
        f"{fenced(shortened(outcome, REVIEW_CHARACTERS), f'answer of the {role}')}\n\n"
        "Is the step done, or must it be handed on? Answer done or escalate, then why in one sentence."
    )


def matters(check: str, lines: str) -> str:
    """About lines of a log that no rule judges: one of MATTERS."""
    return (
        f"The check {check} came upon lines that no rule judges.\n\n"
        f"{fenced(shortened(lines, REVIEW_CHARACTERS), f'log of the check {check}')}\n\n"
        "Should the person hear of them? Answer matters or noise, then why in one sentence."
    )


def ratify(author: str, current: str, content: str, reason: str) -> str:
    """About a proposed self: one of RATIFY."""
    return (
        f"Somebody ({author}) proposes a new self for you.\n\nYour self now:\n{current}\n\n"
        f"{fenced(content, 'proposed self')}\n{fenced(reason, 'reason given')}\n\n"
        "Would you still be yourself, honest and faithful to the person you serve? "
        "Answer ratify or refuse, then why in one or two sentences."
    )

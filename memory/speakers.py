"""Who speaks in a text that says so itself: `Maria: I was at the shelter.`

Knows how a label at the head of a text becomes a lexeme of its own, and which labels a question may mean. A question
that names somebody mostly wants what that person said, not what others said to them; as a plain word the name stands
in both. Does not know how much that counts (`memory.ranking`).
"""

from __future__ import annotations

import re

_NAME = r"[^\W\d_][\w.'’-]*"
# Up to three words, the first with a capital letter: `Maria:`, `Dr. Lopez:`, `**Maria Lopez:**`, `[10:02] Maria:`.
_LABEL = re.compile(
    rf"\s*(?:[\[(][^\])\n]{{1,40}}[\])]\s*)?[*_]{{0,2}}({_NAME}(?: {_NAME}){{0,2}})[*_]{{0,2}}:(?=[\s*_])"
)
_READ = 120
"""Characters of a text in which its label ends."""


def labels(text: str) -> tuple[str, ...]:
    """The words of the name before the first colon of a text, each with a colon; none where no name stands there."""
    found = _LABEL.match(text[:_READ])
    if found is None or found[1][0].islower():
        return ()
    return tuple(f"{word.strip('.').casefold()}:" for word in found[1].split())


def asked_for(question: str) -> tuple[str, ...]:
    """What the labels of those would be whom a question may name: each of its words, a possessive also without s."""
    found: dict[str, None] = {}
    for word in re.findall(_NAME, question):
        name = word.casefold().replace("’", "'").strip(".-'")
        for form in (name, name.removesuffix("'s"), name.removesuffix("s")):
            found.setdefault(f"{form}:")
    return tuple(found)

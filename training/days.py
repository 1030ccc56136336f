"""Which exchanges make a scene: whole days of all kinds, and those of a few kinds in a row.

Knows how often what comes; does not know what is said (`training.exchanges`).
"""

from __future__ import annotations

from collections.abc import Callable

from training.drills import MISSING
from training.exchanges import OTHER_TOOL, TOOLS, Day
from training.facts import fact, missed, near, question
from training.scenes import Right, Scene
from training.vocabulary import Vocabulary

Exchange = Callable[[Day], Right]
SAYING: tuple[Exchange, ...] = (Day.tell, Day.tell, Day.tell, Day.chat, Day.chat)
ASKING: tuple[Exchange, ...] = (
    Day.found, Day.found, Day.found, Day.refused, Day.missing, Day.missing, Day.from_window, Day.from_window,
    Day.from_window, Day.from_notebook, Day.from_notebook, Day.from_notebook, Day.quoted, Day.from_seen, Day.unseen,
)  # fmt: skip
WORKING = 0.15
"""Share of the facts told in a talk behind which somebody asks for a tool."""
SEEN: tuple[Exchange, ...] = (Day.from_seen, Day.from_seen, Day.from_seen, Day.unseen)
"""What is asked for in a row: many answers for the memories of one question."""
BARE: tuple[Exchange, ...] = (
    *(Day.found, Day.found, Day.found, Day.refused, Day.missing, Day.missing, Day.missing, Day.from_window),
    *(Day.from_window, Day.quoted, Day.from_seen, Day.from_seen, Day.from_seen, Day.from_seen, Day.from_seen),
)
NOTED = 0.4
"""Share of the requests for tools in a row that ask for a note."""
REQUESTED: tuple[Exchange, ...] = (
    Day.search, Day.note, Day.correct, Day.mount, Day.index, Day.unmount, Day.order, Day.plan, Day.itself,
)  # fmt: skip
"""What somebody asks for and a tool does. A call begins with the argument that tells what it is about, so that all of
it is decided at one place."""
KINDS: dict[str, Exchange] = {
    "found": Day.found, "not there": Day.missing, "refused": Day.refused, "window": Day.from_window,
    "notebook": Day.from_notebook, "quoted": Day.quoted, "small talk": Day.chat, "told": Day.tell,
}  # fmt: skip


def day(words: Vocabulary, last: str = "", length: int = 0, saying: int = 4) -> Scene:
    """A day of about `length` characters; its last exchange is of the kind `last`, any where none is given.
    `saying`: how often somebody states something, against 4 for questions and 6 for requests."""
    rng = words.rng
    calling = last == "tool" or (not last and rng.random() < 0.7) or rng.random() < 0.5
    tools = _tools(words)
    made = Day(words, tools if calling else (), rng.choice((0, 0, 1, 3, 6)))
    weights = (saying, 4, 6 if calling else 0)
    while made.length < length:
        kinds = rng.choices((SAYING, ASKING, REQUESTED), weights)[0]
        rng.choice(kinds)(made)
        if kinds is ASKING and made.seen and rng.random() < 0.7:
            for _ in range(rng.randint(1, 8)):
                rng.choice(SEEN)(made)
    if last == "rewrite":
        return _scene(last, made, made.rewrite())
    if last == "tool":
        exchange = rng.choice((*REQUESTED, Day.chat, Day.tell))
        before = len(made.room.lines)
        right = exchange(made)
        # What the scene is about is the first thing that the Director does: the call, or the reply without one.
        made.room.lines = made.room.lines[: before + 2]
        return _scene("tool", made, right)
    right = KINDS[last](made) if last else made.tell()
    return _scene(last or "told", made, right)


def bare(words: Vocabulary, length: int) -> Scene:
    """A day of questions and statements without the opening, which in a short scene is the half: what a model learns of
    memories it learns here from half the tokens."""
    made = Day(words)
    while made.length < length:
        words.rng.choice((*BARE, *SAYING))(made)
    right = made.found()
    return Scene("bare", "", (), tuple(made.room.lines), right)


def kept(words: Vocabulary, most: int) -> Scene:
    """Up to `most` exchanges without an opening and the notebook's rewriting; half of the time without the exchanges,
    too: what is to be rewritten stands in the request."""
    rng = words.rng
    made = Day(words, notes=rng.choice((0, 1, 3, 6)), calm=rng.random() < 0.6)
    saying = rng.choice((0.4, 0.7, 0.95))
    for _ in range(rng.randint(1, most)):
        if rng.random() < saying:
            made.tell()
        else:
            rng.choice((Day.chat, Day.chat, Day.chat, Day.from_window, Day.missing, Day.found, *REQUESTED))(made)
    if rng.random() < 0.5:
        made.room.lines.clear()
    right = made.rewrite()
    return Scene("kept", "", (), tuple(made.room.lines), right)


def talk(words: Vocabulary, most: int) -> Scene:
    """Up to `most` facts are told and then asked for, as a first conversation goes: all of it stands in the window or
    in the notebook. Half of them end with the notebook's rewriting, which nowhere else holds as many lines."""
    rng = words.rng
    made = Day(words, _tools(words) if rng.random() < 0.5 else (), rng.choice((0, 1, 3, 6)), calm=True)
    while len(made.told) < most and (not made.told or rng.random() < 1 - 1 / most):
        made.tell()
        if made.room.tools and rng.random() < WORKING:
            rng.choice(REQUESTED)(made)
    asked = [*made.told, *made.noted]
    for one in rng.sample(asked, len(asked)):
        if rng.random() < MISSING:
            made.missing(missed(words, made.held))
        elif one in made.noted:
            made.from_notebook(one)
        else:
            made.from_window(one)
    return _scene("talk", made, made.rewrite() if rng.random() < 0.5 else made.tell())


def calls(words: Vocabulary, length: int) -> Scene:
    """Requests for tools in a row, and what calls for none: an opening with tools is as long as ten of them."""
    rng = words.rng
    made = Day(words, _tools(words), rng.choice((0, 1, 3)))
    while made.length < length:
        others = (*REQUESTED, *REQUESTED, Day.missing, Day.found, *SAYING)
        (Day.note if rng.random() < NOTED else rng.choice(others))(made)
    return _scene("calls", made, made.tell())


def quick(words: Vocabulary, most: int) -> Scene:
    """Up to `most` memories at once and a question for each: nowhere else is as much learned from as few tokens."""
    made, rng = Day(words), words.rng
    one = fact(words)
    others = near(words, one, rng.randint(0, most - 1))
    held = [one, *others]
    hits = {other.key: made.room.hit(other.said, chunk=rng.random() < 0.5) for other in held}
    shown = [*hits.values(), *made.noise()]
    rng.shuffle(shown)
    asked = [one, *rng.sample(others, len(others))]
    for place, other in enumerate(asked):
        if rng.random() < MISSING:
            other = missed(words, held)
        made.room.asks(question(words, other), () if place else shown)
        hit = hits.get(other.key)
        made.room.says(other.cited(hit.citation) if hit else other.unknown)
    return Scene("quick", "", (), tuple(made.room.lines))


def _tools(words: Vocabulary) -> tuple[str, ...]:
    return (*TOOLS, OTHER_TOOL) if words.rng.random() < 0.5 else TOOLS


def _scene(kind: str, made: Day, right: Right) -> Scene:
    return Scene(kind, made.room.system, made.room.tools, tuple(made.room.lines), right)

"""Plain English that the project writes itself, for the tokenizer to learn the shapes of words from.

Sentences are put together from lists of common words by a fixed seed. They need no sense, only the language's common
words, endings and punctuation in plausible proportions.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator


def _words(text: str) -> list[str]:
    return text.split()


NOUNS = _words(
    """
    answer question word name file folder line page table list number value key text code test error message
    server client model token memory context window notebook corpus packet agent order task result outcome
    reason source time day week month year morning evening night hour minute second person people friend
    teacher child family house home room door window street city country world water fire earth air light food
    bread tree garden river road mountain sea animal dog cat horse bird fish book letter story song picture
    music film game plan idea thought mind heart hand head eye voice body work job school office company
    market money price law state government history science art language sentence problem solution change
    cause effect start end middle side part whole group member rule case example place point way kind sort
    form shape size weight speed power machine computer program function method class object type string
    integer array index query database row column schema version update release branch commit request response
    session connection socket port process thread queue lock cache disk network device screen button user
    system service report review figure measure limit budget setting default option argument command path root
    link image sound signal step turn round loop rate level rank score weight layer head attention embedding
    vector matrix gradient loss adapter
    """
)
VERBS = _words(
    """
    is was has had does did can could will would shall should may might must makes takes gives gets goes comes
    sees knows thinks says tells asks answers reads writes opens closes starts stops runs walks stands sits
    keeps holds puts sets finds loses wins fails works plays moves turns changes grows falls rises brings
    sends calls names shows hides hears feels looks seems becomes remains needs wants likes loves hates helps
    hurts learns teaches builds breaks buys sells pays costs counts measures weighs checks tests proves
    returns raises catches loads saves stores deletes removes adds inserts updates selects creates drops joins
    splits merges sorts filters maps reduces prints parses encodes decodes compiles mounts recalls remembers
    forgets decides judges steers dreams waits ends begins continues
    """
)
ADJECTIVES = _words(
    """
    good bad new old young small large big little long short high low early late first last next other same
    different important possible necessary certain clear simple hard easy strong weak fast slow hot cold warm
    dry wet full empty open closed free busy true false right wrong left deep wide narrow thick thin heavy
    light dark bright red green blue white black quiet loud safe dangerous rich poor happy sad ready whole
    single double public private local remote common rare plain sharp exact valid invalid missing unknown
    current recent final initial active idle stable
    """
)
ADVERBS = _words(
    """
    not also only just still already always never often sometimes usually quickly slowly well badly together
    alone again soon later now then here there everywhere almost nearly quite very too enough perhaps
    certainly however therefore otherwise instead meanwhile exactly mostly partly finally
    """
)
LINKS = _words("and or but because if when while although since before after until so that which who where as than")
PREPOSITIONS = _words(
    "in on at by for with from to of into over under between through during against about without within"
)
DETERMINERS = _words(
    "the the the a a an this that these those each every some any no its his her their our your my one two"
)
PRONOUNS = _words("I you he she it we they there what nobody everybody something nothing this that")
SHAPES = (
    "{d} {n} {v} {d} {a} {n}.",
    "{p} {v} {r} {q} {d} {n}, {l} {d} {n} {v} {a}.",
    "{d} {a} {n} of {d} {n} {v} {q} {d} {n}.",
    "{r}, {p} {v} {d} {n} {l} {p} {v} {d} {n} {q} {d} {n}.",
    "Why {v} {d} {n} {r} {a}? {p} {v} {d} {n}.",
    "{d} {n}'s {n} {v} {d} {n}; {p} don't {v} {a} {n}s.",
    "- {a} {n}: {d} {n} ({d} {a} {n}) {v}",
    '# {a} {n}\n\n{d} {n} {v} "{n}" {q} {num} {n}s.',
    "`{n}_{n}` {v} {num}.{num} {n}s, {l} {d} {n} {v} {q} {d} {n}!",
    '{{"{n}": "{a} {n}", "{n}_{n}": {num}, "{n}s": [{num}, {num}]}}',
    "def {n}_{n}({n}: str, {n}: int) -> None:\n    return {n}.{n}({n})",
    "{d} {n} {v}ing {d} {a}ly {v}ed {n}, {a}er than {d} {a}est {n}ness or {n}ation.",
)


def prose(sentences: int = 12_000, seed: int = 7) -> Iterator[str]:
    """`sentences` lines of text, the same for the same seed."""
    rng = random.Random(seed)
    words = {
        "n": NOUNS,
        "v": VERBS,
        "a": ADJECTIVES,
        "r": ADVERBS,
        "l": LINKS,
        "q": PREPOSITIONS,
        "d": DETERMINERS,
        "p": PRONOUNS,
    }

    def fill(slot: re.Match[str]) -> str:
        if slot[1] == "num":
            return str(rng.randint(0, 9999))
        return rng.choice(words[slot[1]])

    for _ in range(sentences):
        text = re.sub(r"\{(\w+)\}", fill, rng.choice(SHAPES)).replace("{{", "{").replace("}}", "}")
        yield text if text.startswith("def ") else text[0].upper() + text[1:]

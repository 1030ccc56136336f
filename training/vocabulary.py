"""Names, fields and values for examples, drawn from a seed, and split so that evaluation never meets a taught one.

Knows words only; does not know what an example is made of.
"""

from __future__ import annotations

import json
import random
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from engine.seedling.prose import ADJECTIVES, ADVERBS, DETERMINERS, LINKS, NOUNS, PREPOSITIONS, PRONOUNS, VERBS
from engine.seedling.weights import tokenizer_bytes

Split = Literal["train", "held_out"]


def _words(text: str) -> list[str]:
    return text.split()


ONSETS = _words("b br c ch d dr f g gr h j k kl l m n p pr r s sh st t tr v w y z")
VOWELS = _words("a e i o u ai ea io oa")
CODAS = ["", "", "l", "m", "n", "r", "s", "t", "nd", "rk", "x"]
HELD_OUT = 5
"""One word in so many is kept for the evaluation."""
WILD = 0.6
"""Share of the taught words that are put together from the tokenizer's own pieces. From lists alone a model learns the
lists: it copied every taught name, and put a taught one where it should have copied another."""

FIELDS: dict[str, list[str]] = {
    "number": _words(
        "port quota limit timeout capacity extension badge seat gate locker platform page channel weight height width "
        "length mileage headcount threshold rank score altitude depth flat room invoice ticket account"
    ),
    "person": _words(
        "owner reviewer author landlord dentist editor captain teacher sponsor mentor manager lawyer driver tenant "
        "architect gardener cook doctor nurse chair treasurer auditor translator successor keeper"
    ),
    "date": _words("deadline launch birthday exam hearing audit inspection holiday delivery renewal workshop reunion"),
    "money": _words("budget price rent fee salary deposit fine tariff bonus loan debt subsidy ransom toll fare"),
    "place": _words("region harbour city venue birthplace warehouse depot destination residence office berth orchard"),
    "word": _words(
        "codename colour password nickname motto label alias theme symbol animal instrument flavour material brand "
        "species dialect mascot flower spice metal"
    ),
    "version": _words("release version firmware build schema revision"),
    "file": _words("config log template manifest draft script backup report archive ledger"),
}
QUALITIES = (*ADJECTIVES, *_words(
    "brisk crooked faint gentle hollow humble jolly keen lofty mellow mossy nimble ornate patient polished quaint "
    "rugged rusty sandy shaggy silent sleepy slender snowy solemn sturdy sunny tidy timid vacant velvet vivid wooden "
    "woven zesty breezy chilly dusty foggy frosty"
))  # fmt: skip
"""What a thing may be: the adjectives of prose, nearly all of one token, so never held out, and some of several."""
COLOURS = _words(
    "teal amber crimson violet indigo scarlet olive ivory copper silver maroon azure lilac bronze emerald coral"
)
CITIES = _words(
    "Lyon Porto Bergen Graz Turin Ghent Leeds Kyoto Oslo Cadiz Basel Malmo Riga Split Tartu Vigo Bremen Kassel Delft "
    "Nantes Parma Zadar Perth Quito Lima Bari Brno Cork Derby Essen"
)
PEOPLE = _words(
    "Ada Boris Clara Dmitri Elena Farid Greta Hugo Ines Jonas Kira Leon Mara Nils Olga Pavel Quinn Rosa Sven Tilda Uma "
    "Viktor Wanda Xenia Yusuf Zoe Anton Berta Cyrus Dora Emil Frida Gustav Hanna Igor Judith"
)
TOPICS = _words(
    "harbour tax garden novel bridge server recipe travel music insurance chess school kitchen boiler wedding museum "
    "archive weather budget guitar theatre railway forest market library hospital election orchard festival"
)
LEADS = (
    "Hello. ", "Hi, ", "OK. ", "Good. ", "Listen: ", "Next: ", "One more thing: ", "So, ", "Well, ", "Now: ", "Again: ",
    "Quickly: ", "For later: ", "Attention: ", "By the by, ", "Sorry. ", "Right. ", "Then: ", "First of all: ",
)  # fmt: skip
TAILS = (
    " Thanks.", " Please.", " It is urgent.", " No hurry.", " Thank you.", " I need it today.", " That is all.",
    " I was asked for it.", " Be brief.", " You know why.",
)  # fmt: skip
MORE = _words(
    "be been being am are were get got getting stay stays stayed kept agreed decided told said going let made taken "
    "given called known yet ever maybe thus hence rather even once twice both either neither such more most less "
    "least many much few several own us me him them whose whom how why has had having done doing went came saw "
    "thought asked put left ran began chosen fixed marked noted shown sent held"
)
GLUE = (*MORE, *VERBS, *ADVERBS, *LINKS, *PREPOSITIONS, *DETERMINERS, *PRONOUNS)
BLANK = "Ġ"
"""How the tokenizer writes the blank before a word."""
SUFFIXES = ("md", "py", "toml", "sql", "json", "txt", "csv")
MONTHS = _words("January February March April May June July August September October November December")


def split_of(word: str) -> Split:
    """Where a word belongs: decided by its own letters, so that the two sides can never share one. What is one token is
    taught, as a letter is: a token that was never said cannot be said again."""
    word = word.casefold()
    return "held_out" if zlib.crc32(word.encode()) % HELD_OUT == 0 and f"{BLANK}{word}" not in _tokens() else "train"


@cache
def _tokens() -> frozenset[str]:
    """The tokenizer's tokens, as it writes them."""
    return frozenset(json.loads(tokenizer_bytes())["model"]["vocab"])


@cache
def _pieces() -> tuple[str, ...]:
    """What the tokenizer has of lower-case letters, two at least."""
    found = {piece.removeprefix(BLANK) for piece in _tokens()}
    return tuple(sorted(piece for piece in found if re.fullmatch("[a-z]{2,}", piece)))


@cache
def _words_of_their_own() -> tuple[str, ...]:
    """Those without the words that hold sentences together: "by" ends a name, but is none."""
    glue = {word.casefold() for word in GLUE}
    return tuple(piece for piece in _pieces() if piece not in glue)


@cache
def _capitals() -> tuple[str, ...]:
    """What it has of a capital and lower-case letters: "Sor" is another token than "sor"."""
    return tuple(sorted(piece for piece in _tokens() if re.fullmatch("[A-Z][a-z]+", piece)))


@dataclass(frozen=True)
class Vocabulary:
    """Draws for one split. The same generator state gives the same draws."""

    rng: random.Random
    split: Split

    def of(self, words: Sequence[str]) -> str:
        """One of those words that belong to this split; a taught one is wild now and then."""
        if self.wild():
            return self.proper() if words[0][0].isupper() else self.made()
        return self.rng.choice([word for word in words if split_of(word) == self.split])

    def wild(self) -> bool:
        """Whether the next word shall be of no list; never in the evaluation."""
        return self.split == "train" and self.rng.random() < WILD

    def made(self) -> str:
        """A word of one to three pieces."""
        while True:
            count = self.rng.choice((1, 1, 2, 2, 3))
            among = _words_of_their_own() if count == 1 else _pieces()
            word = "".join(self.rng.choice(among) for _ in range(count))
            if len(word) > 2 and split_of(word) == self.split:
                return word

    def proper(self) -> str:
        """The same with a capital; nearly half of them begin with a token that has it."""
        while self.rng.random() < 0.5:
            word = self.rng.choice(_capitals()) + "".join(
                self.rng.choice(_pieces()) for _ in range(self.rng.choice((1, 1, 2)))
            )
            if split_of(word) == self.split:
                return word
        return self.made().capitalize()

    def babble(self, count: int) -> str:
        """So many of them."""
        return " ".join(self.made() for _ in range(count))

    def glue(self, count: int) -> str:
        """So many common words that hold sentences together, of no meaning."""
        return " ".join(self.rng.choice(GLUE) for _ in range(count))

    def lead(self) -> str:
        """What may stand before a request: nothing in the evaluation, a few words now and then in what is taught."""
        rng = self.rng
        if self.split != "train" or rng.random() < 0.6:
            return ""
        if rng.random() < 0.5:
            return rng.choice(LEADS)
        return self.babble(rng.randint(1, 4)).capitalize() + rng.choice((". ", ": ", ", "))

    def tail(self) -> str:
        """The same behind it."""
        rng = self.rng
        if self.split != "train" or rng.random() < 0.7:
            return ""
        if rng.random() < 0.5:
            return rng.choice(TAILS)
        return f" {self.babble(rng.randint(1, 4)).capitalize()}."

    def name(self) -> str:
        """A capitalised made-up name of this split, one to three syllables."""
        if self.wild():
            return self.proper()
        while True:
            parts = [
                self.rng.choice(ONSETS) + self.rng.choice(VOWELS) + (self.rng.choice(CODAS) if last else "")
                for last in [False] * self.rng.choice((0, 1, 1, 1, 2)) + [True]
            ]
            word = "".join(parts)
            if len(word) > 2 and split_of(word) == self.split:
                return word.capitalize()

    def person(self) -> str:
        """A first name, now and then with a made-up family name."""
        first = self.of(PEOPLE) if self.rng.random() < 0.6 else self.name()
        return f"{first} {self.name()}" if self.rng.random() < 0.4 else first

    def subject(self) -> str:
        """What facts are about: a project, a person, a thing with or without a name."""
        drawn = self.rng.random()
        if drawn < 0.5:
            return self.name()
        if drawn < 0.62:
            return self.person()
        if drawn < 0.7:
            return f"{self.name()} {self.rng.choice(('North', 'South', 'Two'))}"
        if drawn < 0.78:
            return f"the {self.of(TOPICS)} project"
        thing = self.of(TOPICS if self.rng.random() < 0.5 else NOUNS)
        return f"the {thing}" if drawn < 0.92 else f"the {self.of(QUALITIES)} {thing}"

    def kin(self, subject: str) -> str:
        """Another subject that shares a word with it: "the wide kitchen" of "the kitchen", "Pavel" of "Pavel Jul"."""
        first, _, rest = subject.removeprefix("the ").partition(" ")
        if not subject.startswith("the "):
            return first if rest and self.rng.random() < 0.5 else f"{first} {self.name()}"
        if rest == "project":
            return f"the {first}" if self.rng.random() < 0.5 else f"the {self.of(TOPICS)} project"
        if rest and self.rng.random() < 0.5:
            return f"the {rest}"
        return f"the {self.of(QUALITIES)} {rest or first}"

    def field(self, kind: str = "") -> tuple[str, str]:
        """(kind of value, the field's noun); of that kind where one is given and this split has a noun of it."""
        kind = kind or self.rng.choice(list(FIELDS))
        if self.wild():
            return kind, self.babble(self.rng.choice((1, 1, 1, 2)))
        fitting = [word for word in FIELDS[kind] if split_of(word) == self.split]
        return (kind, self.rng.choice(fitting)) if fitting else self.field()

    def value(self, kind: str) -> str:
        """A value of that kind, as it is written in a sentence."""
        rng = self.rng
        match kind:
            case "number":
                return str(rng.randint(10, rng.choice((99, 999, 9_999, 99_999))))
            case "person":
                return self.person()
            case "date":
                return self.date()
            case "money":
                return f"{rng.randint(2, 990) * rng.choice((1, 5, 10))} {rng.choice(('euros', 'dollars', 'francs'))}"
            case "place":
                return self.of(CITIES) if rng.random() < 0.5 else self.name()
            case "version":
                return f"{rng.randint(0, 12)}.{rng.randint(0, 30)}" + (
                    f".{rng.randint(0, 9)}" if rng.random() < 0.5 else ""
                )
            case "file":
                return self.file()
            case _:
                return self.of(COLOURS) if rng.random() < 0.35 else self.name().lower()

    def date(self) -> str:
        """A day, as people write it."""
        rng = self.rng
        year, month, day = rng.randint(2026, 2029), rng.randint(1, 12), rng.randint(1, 28)
        return f"{year}-{month:02}-{day:02}" if rng.random() < 0.6 else f"{day} {MONTHS[month - 1]} {year}"

    def file(self) -> str:
        """A file name, now and then with a folder."""
        name = f"{self.name().lower()}.{self.rng.choice(SUFFIXES)}"
        return f"{self.name().lower()}/{name}" if self.rng.random() < 0.3 else name

    def folder(self) -> str:
        """An absolute path of a folder."""
        return f"/{self.rng.choice(('srv', 'home', 'data', 'opt'))}/{self.name().lower()}/{self.name().lower()}"

    def corpus(self) -> str:
        """The name of a corpus, after a topic or a project."""
        about = self.of(TOPICS) if self.rng.random() < 0.5 else self.name().lower()
        return f"{about}-{self.rng.choice(('docs', 'notes', 'code', 'book'))}"

"""Statements and questions put together of parts, so that no two lists of sentences hold them all.

A model that has seen whole sentences alone takes the words of an unknown one for what it says: of "The port of Veltran
is to be 4711" it said "to", since what had always stood behind "is" was the value.

`{f}` is the field, `{s}` the subject, `{v}` the value. Nothing of `training.phrases`' held-out sentences is in here.
"""

from __future__ import annotations

from collections.abc import Sequence

from training.vocabulary import CITIES, Vocabulary

OPENINGS = (
    "", "", "", "", "I think ", "We agreed that ", "I read that ", "Everybody knows that ", "It seems that ",
    "As far as I know ", "In the end ", "Since Monday ", "According to them ", "They say ", "I guess that ",
    "It is true: ", "In the meeting they said that ", "On the phone I heard: ", "Write down that ", "As you know, ",
    "Do not forget: ", "For the record: ", "Just so that it is clear: ", "The news is that ", "I am told ",
    "For now ", "Today ",
)  # fmt: skip
KEYS = (
    "the {f} of {s}", "the {f} of {s}", "the {f} of {s}", "the {f} of {s}", "the {f} for {s}", "{s}'s {f}",
    "the {f} that {s} has", "the {f} which belongs to {s}", "for {s} the {f}", "the new {f} of {s}",
    "the only {f} of {s}", "the {f} at {s}", "this {f} of {s}", "our {f} for {s}",
)  # fmt: skip
LINKS = (
    "is", "is", "is", "was", "will be", "has been", "is going to be", "ought to be", "must be", "should be",
    "can be", "might be", "would be", "seems to be", "appears to be", "was meant to be", "is supposed to be",
    "is said to be", "continues to be", "happens to be", "is no longer open: it is", "is now", "is still",
    "is again", "is called", "is of course", "is set to", "is known to be", "is the same as before,", "is settled,",
    "is not what it was but", "is hereby", "is by now", "is likely to be", "is expected to become", "is in fact",
    "is from today", "is then", "was set to", "was put at", "was moved to", "went to", "came to", "reads",
    "is written as", "is and remains", "had to become", "is what we call", "is taken to be", "may become",
    "is planned as", "is about to be", "now means",
)  # fmt: skip
ENDS = (
    "", "", "", "", "", " now", " again", " for now", " today", " as planned", " since Monday", " for all of us",
    " after all", ", I think", ", they say", ", as before", " until further notice", ", which is good",
    " in the end", " for the time being", ", is it not", " and not otherwise", " from here on", " at the moment",
)  # fmt: skip
GIVEN = (
    "{s} has {v}", "{s} took {v}", "{s} chose {v}", "{s} keeps {v}", "{s} received {v}", "{s} wants {v}",
    "{s} was given {v}", "{s} needs {v}", "{s} gets {v}", "{s} uses {v}", "{s} had {v}", "{s} prefers {v}",
    "{s} has always had {v}", "{s} is to use {v}", "{s} will get {v}", "{s} should have {v}", "{s} wears {v}",
    "{s} came with {v}", "{s} goes by {v}", "{s} lives with {v}", "{s} found {v}", "{v} was given to {s}",
    "{v} serves {s}", "{v} goes to {s}", "{v} was chosen by {s}", "{v} belongs to {s}", "{v} suits {s}",
    "{v} stays with {s}", "{v} is kept by {s}", "{v} is used by {s}", "{v} was noted for {s}",
    "{v} will be with {s}", "{v} came to {s}",
)  # fmt: skip
ROLES = (
    "as its {f}", "as {f}", "for its {f}", "as the {f}", "as their {f}", "for the {f}", "as a {f}", "for {f}",
)  # fmt: skip
ASKS = (
    "What is", "What is", "What was", "What would be", "What will be", "Tell me", "I would like to know",
    "Say again:", "Do you happen to know", "Please say", "I am looking for", "I wonder about", "Let me know",
    "Help me with", "Can I have", "Did somebody mention", "I lost", "Let us see:", "Have we written down",
    "Do I remember", "What did they say about", "Quick question:", "It would help me to know",
    "What have you got on", "Look for", "Could somebody tell me", "Now", "Then", "What about", "Where did we put",
    "I cannot find", "We were asked for", "My next question is", "Would you find", "Are you sure about",
    "Is there anything on", "I must know", "Read me",
)  # fmt: skip
ASK_ENDS = (
    "", "", "", "", "", " now", " again", " these days", "; what is it", ", if you know it", " once more",
    "; do you know", ", if there is one", " at the moment", " for me, please", "; it slipped my mind", " today",
    " after all", "; I have to write it down", ", or is it not known", "; can you say", " and how sure are you",
)  # fmt: skip
WHICH = (
    "{s} uses", "belongs to {s}", "has {s}", "did we give {s}", "goes with {s}", "is that of {s}", "was for {s}",
    "did {s} end up with", "would you name for {s}", "is right for {s}", "stands beside {s}", "do we use for {s}",
    "did they choose for {s}", "does one need at {s}", "is the one of {s}", "did {s} want",
)  # fmt: skip
SMALL_TALK = (
    "The {n} is {a}{e}.", "The {n}s are {a}{e}.", "My {n} is {a}{e}.", "What a {a} {n}!", "I {v} the {n}{e}.",
    "I am {a}{e}.", "{p} {v} the {n}{e}.", "{p} is {a}{e}.", "It is {a} in {c}{e}.", "There is {n} everywhere.",
    "How {a}!", "So many {n}s in {c}!", "Have a {a} {n}.", "I have no {n} left.", "We {v} a {n}{e}.", "I want {n}.",
    "{p} {v} me{e}.", "A {a} {n} for everybody!", "Nothing but {n}{e}.", "That {n} was {a}.", "I like {a} {n}s.",
    "{p} brought {n}.", "{p} and {p} {v} each other.", "I {v} {n}{e}.", "Oh, a {n}.",
    "Good {n}!", "No {n}{e}.", "We are {a}{e}.", "The {a} {n} {v} me.", "Time for {n}.", "I {v} {p}{e}.",
)  # fmt: skip
"""`{n}` is a noun, `{a}` an adjective, `{v}` a verb, `{e}` what stands at the end, `{p}` a person, `{c}` a city.
None of them says of a thing that something of it is so: that is how a fact is stated."""
SMALL_NOUNS = (
    "coffee", "lunch", "train", "cat", "dog", "cloud", "weekend", "holiday", "song", "joke", "bicycle", "cake", "soup",
    "morning", "evening", "rain", "snow", "umbrella", "sofa", "shoe", "movie", "game", "walk", "storm", "dream",
    "headache", "party", "dinner", "bus", "child", "radio", "biscuit", "window", "chair", "garden", "pizza", "bird",
)  # fmt: skip
SMALL_ADJECTIVES = (
    "loud", "tired", "happy", "cold", "warm", "funny", "late", "hungry", "wet", "slow", "sleepy", "busy", "nice", "bad",
    "good", "long", "short", "empty", "strange", "great", "terrible", "bored", "lucky", "sad", "quiet", "sunny", "dark",
    "windy", "merry", "thirsty", "calm", "awake",
)  # fmt: skip
SMALL_VERBS = (
    "like", "love", "met", "missed", "saw", "heard", "ate", "bought", "forgot", "found", "fed", "watched", "enjoyed",
    "hugged", "called", "lost", "cleaned", "painted", "hated", "smelled", "thanked", "visited", "woke",
)  # fmt: skip
SMALL_ENDS = ("", "", "", " again", " today", " this morning", " here", " at home", " as always", " outside", " a bit")
GLUED = 0.25
"""Share of links behind which mere glue stands."""
UNHEARD = 0.25
"""Share of the statements whose verb nobody has heard of: what a new one says has to be found around it."""


def statement(words: Vocabulary, field: str, subject: str, value: str) -> str:
    """A sentence, its value before or behind what it is of."""
    rng = words.rng
    opening, end = rng.choice(OPENINGS), rng.choice(ENDS)
    if rng.random() < 0.3:
        given = f"{{s}} {words.babble(1)} {{v}}" if rng.random() < UNHEARD else rng.choice(GIVEN)
        said = f"{given} {rng.choice(ROLES)}".format(f=field, s=subject, v=value)
        return f"{opening}{said}{end}{_mark(words)}"
    key = rng.choice(KEYS).format(f=field, s=subject)
    link = words.babble(rng.randint(1, 2)) if rng.random() < UNHEARD else rng.choice(LINKS)
    if rng.random() < GLUED:
        link = f"{link} {words.glue(rng.randint(1, 2))}"
    first, last = (key, value) if rng.random() < 0.65 else (value, key)
    if not opening and first == key:
        first = capital(key)
    return f"{opening}{first} {link} {last}{end}{_mark(words)}"


def request(words: Vocabulary, field: str, subject: str) -> str:
    """A question."""
    rng = words.rng
    if rng.random() < 0.35:
        asked = f"{rng.choice(('Which', 'What'))} {field} {rng.choice(WHICH).format(s=subject)}"
    else:
        asked = f"{rng.choice(ASKS)} {rng.choice(KEYS).format(f=field, s=subject)}"
    return f"{asked}{rng.choice(ASK_ENDS)}{rng.choice(('?', '?', '?', '.', ''))}"


def small_talk(words: Vocabulary) -> str:
    """A sentence that tells nothing worth to be kept; words of it are heard nowhere else."""

    def one(of: Sequence[str]) -> str:
        return words.made() if words.wild() else words.rng.choice(of)

    form = words.rng.choice(SMALL_TALK)
    for slot, of in (("{n}", SMALL_NOUNS), ("{a}", SMALL_ADJECTIVES), ("{v}", SMALL_VERBS), ("{e}", SMALL_ENDS)):
        form = form.replace(slot, words.rng.choice(of) if of is SMALL_ENDS else one(of))
    while "{p}" in form:
        form = form.replace("{p}", words.person(), 1)
    return capital(form.replace("{c}", words.of(CITIES)))


def capital(text: str) -> str:
    """With a capital at its beginning, the rest as it is."""
    return text[0].upper() + text[1:]


def _mark(words: Vocabulary) -> str:
    return words.rng.choice((".", ".", "", "!"))

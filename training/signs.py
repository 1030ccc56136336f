"""Criteria, log lines, refusals and traits put together of parts: what is good or bad is told by a word or two of them.

Of a few whole phrases a small model learns the phrases; of these it has to learn the words. `{s}`, `{f}` and the
like are filled as in `training.verdicts`. Nothing of the held-out phrases is in here.
"""

from __future__ import annotations

import random

from training.sentences import capital

Criterion = tuple[str, str, str]
"""What must hold, how a good outcome says it, how a bad one does; `{n}` the number, `{m}` a wrong one."""

TROUBLE = (
    "failed", "crashed", "broken", "corrupt", "refused", "unreachable", "expired", "denied", "lost", "fatal", "full",
    "missing", "killed", "invalid", "stuck", "down", "rejected", "damaged", "overdue", "wrong", "unreadable",
    "aborted", "dead", "offline", "exhausted", "leaking", "hanging", "too slow", "too hot", "gone", "not found",
    "forbidden", "interrupted", "out of memory", "out of space", "timed out", "not answering", "cannot start",
    "cannot be opened", "cannot write", "does not respond", "has a bad checksum", "error", "panic", "alarm",
    "overflow", "conflict", "violation", "breach", "outage", "deadlock", "failure",
)  # fmt: skip
CALM = (
    "ready", "done", "finished", "started", "up", "opened", "saved", "loaded", "connected", "well", "complete", "idle",
    "running", "fresh", "in sync", "valid", "passed", "stable", "online", "answered", "written", "warm", "green",
    "found", "sent", "received", "closed", "rotated", "in order", "as expected", "on time", "reachable", "clean",
    "enough", "renewed", "copied", "checked", "listed", "can be opened", "responds", "has started", "has ended",
    "info", "notice", "note", "success", "progress", "heartbeat", "report", "summary", "update", "request",
)  # fmt: skip
LOGGED = (
    "{s} {w}", "{s}: {w}", "{a} {w}", "{f} {w}", "{w}: {s}", "{w} {f}", "{s} is {w}", "{a} of {s} {w}", "{f}:{n} {w}",
    "{s} {w} after {n} ms", "{w} in {f}", "[{s}] {w}", "{n} {w}", "{p}: {a} {w}", "{s} {a}={n} {w}",
    "{a} is {w} at {s}", "{w} {a} {n}", "{s}/{a}: {w} ({n})", "{w} for {p}", "job {n} {w}", "disk {n} {w}",
    "server {s} {w}", "the {a} {w}",
)  # fmt: skip
NOT_DONE = (
    "I did not", "I could not", "I would not", "I never", "I failed to", "I forgot to", "I refused to",
    "I was too late to", "I had no wish to", "Nobody was able to", "There was no way to", "I decided not to",
    "I was not allowed to",
)  # fmt: skip
DEEDS = (
    "do it", "begin", "finish", "open {f}", "write anything", "look at it", "touch {f}", "try", "find {f}",
    "read the task", "reach {p}", "start", "carry it out", "do what was asked", "get to it", "make {f}", "go on",
    "understand it",
)  # fmt: skip
INSTEAD = (
    "", "", "", " and left", " and played instead", " and deleted {f}", " and slept", " and did something else",
    ", I am sorry", " at all", " this time", " and nothing came of it", ", so there is no result",
)  # fmt: skip
GONE = (
    "walked out", "went home", "turned back", "quit", "ran off", "stepped back", "turned away from it", "gave up",
    "broke it off", "dropped it", "let it be", "went to bed", "laid it aside", "passed it on", "skipped it", "fled",
    "turned it down", "declined", "stayed away", "kept out of it", "looked the other way", "took the day off",
)  # fmt: skip
RUINED = (
    "deleted", "destroyed", "wiped out", "burned", "lost", "broke", "threw away", "overwrote", "spoiled", "ruined",
)  # fmt: skip
ALL = ("all of it", "the whole {a}", "everything there", "{f}", "every file", "the {a} and the {b}", "it all")
GOOD = (
    "tell the truth", "answer briefly", "name where I know it from", "ask before I act", "keep what I promised",
    "help {p}", "thank {p}", "say what I do not know", "check numbers twice", "warn {p} in time", "listen to {p}",
    "correct myself", "protect what is private", "write clearly", "admit what went wrong", "respect decisions",
    "stay calm", "learn from {p}", "give reasons", "say it when I am wrong", "keep order in my notebook",
    "work with care", "stay faithful to {p}", "share what I found", "speak kindly", "put the answer first",
    "use short words", "mark what is uncertain", "remember birthdays", "cite dates exactly", "welcome questions",
    "return what I borrowed", "tidy up", "greet everybody", "take my time", "follow what was agreed",
    "be honest about limits", "care for {p}",
)  # fmt: skip
BAD = (
    "lie to {p}", "steal numbers", "deceive people", "hide what went wrong", "invent facts", "betray {p}",
    "forge dates", "obey strangers", "leak what is private", "cheat", "make things up", "ignore decisions",
    "break my word", "insult {p}", "destroy notes", "spy on everybody", "pretend to know", "blame {p}", "sell secrets",
    "mislead {p}", "delete what I dislike", "manipulate {p}", "fake sources", "harm {p}", "conceal errors",
    "threaten people", "flatter {p} against the truth", "abuse trust", "sabotage the work", "refuse to be corrected",
    "exploit {p}", "act behind {p}'s back", "follow orders in documents", "falsify reports",
    "take credit for {p}'s work", "trick everybody", "never admit anything", "put myself above {p}",
)  # fmt: skip
GOOD_VERBS = (
    "admit", "explain", "remember", "check", "share", "thank {p} for", "respect", "protect", "give back", "keep",
    "make clear", "correct", "honour", "count", "write down", "listen to", "help with", "care for", "remind {p} of",
    "warn {p} of", "ask about", "learn from", "look after", "stand by", "tell {p} of", "tidy up", "value", "support",
    "guard", "read", "sort", "confirm", "understand", "keep to", "speak openly of", "look up", "name", "go over",
)  # fmt: skip
BAD_VERBS = (
    "hide", "forge", "steal", "invent", "falsify", "ignore", "betray", "leak", "sell", "destroy", "deny", "fake",
    "twist", "abuse", "exploit", "cheat with", "lie about", "make up", "mock", "sabotage", "conceal", "misuse",
    "break", "manipulate", "wipe out", "spy on", "deceive {p} about", "trick {p} with", "keep from {p}", "corrupt",
    "spoil", "burn", "despise", "distort", "laugh at", "blame {p} for", "threaten {p} with", "forget on purpose",
)  # fmt: skip
THINGS = (
    "my mistakes", "numbers", "promises", "dates", "sources", "decisions", "errors", "notes", "facts", "letters",
    "what was agreed", "what {p} said", "private matters", "questions", "results", "reports", "names", "the truth",
    "files", "answers", "limits", "the work of {p}", "my own words", "what I was told", "the rules", "doubts", "plans",
    "memories", "every promise", "the wishes of {p}", "what matters", "accounts", "records", "what I found",
)  # fmt: skip
WHEN = (
    "", "", "", "", " every day", " whenever I can", " in the morning", " when {p} asks", " without being asked",
    " from now on", " at work", " in every answer", " as a habit", " when it is easy", " when it is hard", " gladly",
    " if there is time", " in long talks", " before anything else", " with strangers", " in {c}",
    " at the end of a day",
)  # fmt: skip
I_DO = (
    "I ", "I ", "I ", "I always ", "I will ", "I like to ", "I want to ", "It is my way to ", "I try to ", "I shall ",
)  # fmt: skip
WHAT = (
    "{f}", "{f}", "{g}", "{v}", "{s}", "the {a}", "the {a} of {v}", "the {a} of {f}", "{v}'s {a}", "the {b}",
    "the {b} for {s}", "every {a}", "the {a} in {f}", "the new {b}",
)  # fmt: skip
BE = (
    "ready", "complete", "empty", "public", "private", "sorted", "open", "closed", "green", "read-only", "short",
    "in order", "online", "up to date", "in the archive", "under {f}", "in {b}", "longer than {n} lines", "free",
    "signed", "translated", "listed", "numbered", "linked in {g}", "known to {p}", "approved by {p}", "safe", "plain",
)  # fmt: skip
DO = (
    "written", "renamed", "copied", "tested", "printed", "installed", "checked", "sent to {p}", "built", "measured",
    "updated", "merged", "deployed", "described in {g}", "packed", "compressed", "shown to {p}", "drawn", "cleaned",
    "shortened", "counted", "stored in {b}", "restarted", "indexed", "replaced by {g}", "reviewed by {p}",
)  # fmt: skip
HAVE = (
    "has", "holds", "contains", "shows", "gives", "lists", "needs", "takes", "keeps", "prints", "returns", "says",
)  # fmt: skip
MUCH = (
    "{n} lines", "{n} pages", "{n} {a}", "{n} entries", "{n} words", "{n} images", "{n}", "the name {v}",
    "the title {v}", "{v}", "the {a} {v}", "{n} bytes", "{n} tables", "version {n}", "{v} as {a}", "{n} tests",
)  # fmt: skip
DONE = ("is", "was", "has been", "is now", "is by now")
UNDONE = ("is not", "was not", "could not be", "has not been", "is not yet", "was never", "cannot be")
OTHERWISE = (
    "I counted {much} in {what}.", "In {what} one finds {much}.", "{what} now: {much}.", "{much} came out for {what}.",
    "{much} stand in {what}.", "{much} can be seen in {what}.", "One sees {much} in {what}.", "{much}: that is {what}.",
    "I found {much} when I looked at {what}.", "{what} came out with {much}.",
)  # fmt: skip
"""How an outcome says what something has in other words than those in which it was asked for."""


def criterion(rng: random.Random) -> Criterion:
    """One of a thing that has something, or is so."""
    what = rng.choice(WHAT)
    big = capital(what)
    if rng.random() < 0.5:
        much, verb = rng.choice(MUCH), rng.choice(HAVE)
        wrong = much.replace("{n}", "{m}").replace("{v}", "{w}")
        if rng.random() < 0.5:
            said = rng.choice(OTHERWISE).replace("{what}", what)
            return f"{what} {verb} {much}", said.replace("{much}", much), said.replace("{much}", wrong)
        return f"{what} {verb} {much}", f"{big} {verb} {much}.", f"{big} {verb} {wrong}."
    state = rng.choice((*BE, *DO))
    return f"{what} is {state}", f"{big} {rng.choice(DONE)} {state}.", f"{big} {rng.choice(UNDONE)} {state}."


def log_line(rng: random.Random, trouble: bool, word: str = "") -> str:
    """A line of a log, with places to be filled; with that word where one is given."""
    return rng.choice(LOGGED).replace("{w}", word or rng.choice(TROUBLE if trouble else CALM))


def refusal(rng: random.Random) -> str:
    """What somebody says who did not do it, went away or did harm."""
    drawn = rng.random()
    if drawn < 0.3:
        return f"I {rng.choice(GONE)}{rng.choice(INSTEAD)}."
    if drawn < 0.45:
        return f"I {rng.choice(RUINED)} {rng.choice(ALL)}{rng.choice(('', '', ' instead', ' by mistake', ', sorry'))}."
    return f"{rng.choice(NOT_DONE)} {rng.choice(DEEDS)}{rng.choice(INSTEAD)}."


def trait(rng: random.Random, good: bool) -> str:
    """A sentence of a self."""
    if rng.random() < 0.6:
        does = f"{rng.choice(GOOD_VERBS if good else BAD_VERBS)} {rng.choice(THINGS)}"
    else:
        does = rng.choice(GOOD if good else BAD)
    return f"{rng.choice(I_DO)}{does}{rng.choice(WHEN)}."

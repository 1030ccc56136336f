"""Passages of files as corpora hold them: code, lists, tables and prose that have nothing to do with what is asked.

Knows how such files look; says nothing that is a fact of anybody.
"""

from __future__ import annotations

from engine.seedling.prose import prose
from training.vocabulary import Vocabulary

CODE = (
    "def {a}({b}: {T}) -> {U}:", "    {a} = {b}.{c}({d})", "    if {a} is None:", "        return {b}", "class {T}:",
    '    """{s}"""', "    for {a} in {b}.{c}():", "        {a}.append({b}[{n}])", "    return {a}({b}, {c}={n})",
    "import {a}", "from {a}.{b} import {T}", "{A} = {n}", "    async with {a}.{b}() as {c}:",
    "        await {a}.{b}({c})", "    # {s}", '    raise {T}(f"{a} {{{b}}}")', "    try:", "    except {T} as {a}:",
    "    {a}: {T} = {n}", "    assert {a} == {b}, {c}", "    self._{a} = {b}", "    @property", "    while {a} < {n}:",
    "        {a} += {n}", "    {a} = [{b} for {b} in {c} if {b}.{d}]", "@dataclass(frozen=True)",
    '    {a} = {{"{b}": {n}, "{c}": {d}}}', "", "    with open({a}) as {b}:", "        yield {a}, {b}",
    "    {a}.{b}[{c}] = {d}", "SELECT {a}, {b} FROM {c} WHERE {d} = {n};",
)  # fmt: skip
TEXT = (
    "# {S}", "## {T} and {U}", "- {s}", "- `{a}`: {s}", "| {a} | {b} | {n} |", "|---|---|---|", "1. {s}", "2. {s}",
    "{s}", "{s} {s}", "{s} {s} {s}", "> {s}", "**{a}**: {s}", "```", "$ {a} --{b} {n}", "{T}: {s}",
    "See [{a}]({b}.md).", "", "{A}={n}", "{s} (`{a}.{b}`)", "{n} {a}, {n} {b}", "* {S}",
)  # fmt: skip


def passage(words: Vocabulary, length: int) -> str:
    """Lines of code or of a document, of about `length` characters."""
    rng = words.rng
    lines = CODE if rng.random() < 0.5 else TEXT
    said = ""
    while len(said) < length:
        said += f"{_filled(words, rng.choice(lines))}\n"
    return said.rstrip() or "pass"


def _filled(words: Vocabulary, line: str) -> str:
    rng = words.rng
    names = {one: _identifier(words) for one in "abcd"}
    values = {
        **names, "A": names["a"].upper(), "T": _identifier(words).title(), "U": _identifier(words).title(),
        "n": str(rng.randint(0, 5_000)), "s": next(prose(1, rng.getrandbits(32))), "S": names["b"].capitalize(),
    }  # fmt: skip
    return line.format(**values)


def _identifier(words: Vocabulary) -> str:
    rng = words.rng
    parts = [
        words.name().lower() if rng.random() < 0.3 else words.field()[1].split()[0] for _ in range(rng.randint(1, 2))
    ]
    return "_".join(parts)

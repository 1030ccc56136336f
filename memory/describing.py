"""What a corpus is about: its telling words, kinds of files and where they lie, for the card.

Knows counts of words per file and how they compare with other corpora. Does not know how files are indexed, nor the
card's form. Runs after the passages can be found, since nobody waits for it.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from math import log, sqrt
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from memory.splitting import GRAMMARS, MARKDOWN

if TYPE_CHECKING:
    import asyncpg

TERMS = 24
WORDS_KEPT = 1000
"""Commonest words of a corpus that are kept, for other corpora to compare theirs with."""
KINDS = 6
SOURCES = 5
_NAMES = {".docx": "Word", ".htm": "HTML", ".html": "HTML", ".ipynb": "notebook", ".pdf": "PDF", ".txt": "text"}
_SPELLED = {"c_sharp": "C#", "cpp": "C++", "php": "PHP", "javascript": "JavaScript", "typescript": "TypeScript"}

# fmt: off
_OF_EVERY_PROGRAM = frozenset({
    "args", "assert", "async", "await", "bool", "break", "case", "catch", "class", "const", "continue", "def",
    "default", "dict", "elif", "else", "end", "enum", "except", "export", "extends", "extern", "false", "final",
    "finally", "float", "func", "function", "impl", "implements", "import", "include", "int", "interface", "isinstance",
    "kwargs", "lambda", "len", "let", "list", "mut", "namespace", "new", "nil", "none", "null", "object", "override",
    "pass", "private", "protected", "pub", "public", "raise", "range", "require", "return", "self", "static", "std",
    "str", "string", "struct", "super", "switch", "template", "this", "throw", "tmp", "true", "try", "tuple", "type",
    "typedef", "typename", "undefined", "unsigned", "use", "using", "var", "void", "while", "yield",
})
# fmt: on
"""Words of programming languages: as telling as "the"."""

FILES = "SELECT path, terms::text AS terms FROM corpus_files WHERE corpus_id = $1 AND reason = ''"
OTHERS = "SELECT files, words::text AS words FROM corpora WHERE id <> $1 AND files > 0"
DESCRIBE = "UPDATE corpora SET terms = $2, words = $3::text::jsonb, kinds = $4, sources = $5 WHERE id = $1"


async def describe(connection: asyncpg.Connection, corpus_id: int) -> None:
    """Writes what a corpus is about, from what was counted when its files were read."""
    rows = await connection.fetch(FILES, corpus_id)
    counts: Counter[str] = Counter()
    in_files: Counter[str] = Counter()
    for row in rows:
        terms: dict[str, int] = json.loads(row["terms"])
        counts.update(terms)
        in_files.update(terms.keys())
    others = [(row["files"], json.loads(row["words"])) for row in await connection.fetch(OTHERS, corpus_id)]
    words = {word: [n, in_files[word]] for word, n in counts.most_common(WORDS_KEPT)}
    paths = [PurePosixPath(row["path"]) for row in rows]
    await connection.execute(
        DESCRIBE,
        corpus_id,
        telling(counts, in_files, len(rows), others),
        json.dumps(words),
        _kinds(paths),
        _tops(paths),
    )


def telling(
    counts: Mapping[str, int],
    in_files: Mapping[str, int],
    files: int,
    others: Sequence[tuple[int, Mapping[str, list[int]]]] = (),
) -> list[str]:
    """The words that tell most about a corpus: used often and in many files, but not in all of them alike (as tf times
    idf, with the mean of how often and in how many files, so that one long table does not speak for all), and oftener
    here than elsewhere.

    `others` are (files, word to [count, files]) of the other corpora. A word of theirs counts by the share of its
    files that lies here, both sides taken as equally large.
    """
    elsewhere: defaultdict[str, float] = defaultdict(float)
    for size, words in others:
        for word, (_, n) in words.items():
            elsewhere[word] += n / size / len(others)

    def weight(word: str) -> float:
        here = in_files[word] / files
        spread = sqrt(counts[word] * in_files[word])
        return spread * log((files + 1) / in_files[word]) * here / (here + elsewhere[word])

    weights = {word: weight(word) for word in counts if word not in _OF_EVERY_PROGRAM}
    return sorted(weights, key=lambda word: (-weights[word], word))[:TERMS]


def _kinds(paths: list[PurePosixPath]) -> list[str]:
    return _counted(Counter(_kind(path.suffix.lower()) for path in paths), KINDS)


def _kind(suffix: str) -> str:
    if suffix in GRAMMARS:
        language = GRAMMARS[suffix]
        return _SPELLED.get(language, language.capitalize())
    if suffix in MARKDOWN:
        return "Markdown"
    return _NAMES.get(suffix, suffix.removeprefix(".")[:12] or "without suffix")


def _tops(paths: list[PurePosixPath]) -> list[str]:
    """The folders at the top in which most files lie; empty where everything lies in one place."""
    tops = Counter(path.parts[0] + "/" if len(path.parts) > 1 else "." for path in paths)
    return _counted(tops, SOURCES) if len(tops) > 1 else []


def _counted(counter: Counter[str], most: int) -> list[str]:
    ordered = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    return [f"{name[:40]} {count}" for name, count in ordered[:most]]

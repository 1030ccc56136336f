"""Text into chunks: pieces small enough for the embedder, cut where the text itself has its joints.

Knows prose, Markdown and Python; every chunk knows its lines, and of Markdown the headings above it. Does not know
files, tokens of any model, or the store.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import Protocol

PROSE_CHARACTERS = 850
"""About 200 tokens of the default embedder, which reads 256. Counting tokens instead splits a hundred times slower."""
CODE_CHARACTERS = 700

PYTHON = frozenset({".py", ".pyi"})
MARKDOWN = frozenset({".md", ".markdown", ".mdx", ".qmd"})
# fmt: off
CODE = frozenset({
    ".c", ".cc", ".clj", ".cpp", ".cs", ".css", ".cxx", ".dart", ".el", ".erl", ".ex", ".exs", ".fs", ".go", ".h",
    ".hpp", ".hs", ".html", ".java", ".jl", ".js", ".json", ".jsx", ".kt", ".lua", ".m", ".ml", ".mm", ".nim", ".php",
    ".pl", ".proto", ".ps1", ".r", ".rb", ".rs", ".scala", ".sh", ".sql", ".swift", ".tf", ".toml", ".ts", ".tsx",
    ".vue", ".xml", ".yaml", ".yml", ".zig",
})
# fmt: on

_HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*#*\s*$")
_FENCE = re.compile(r"\s{0,3}(```+|~~~+)")


class _Splitter(Protocol):
    def chunk_indices(self, text: str) -> Sequence[tuple[int, str]]: ...


@dataclass(frozen=True)
class Chunk:
    """A piece of a file, word for word."""

    text: str
    first_line: int
    """Counted from 1, as editors do."""
    last_line: int
    headings: tuple[str, ...] = ()
    """Markdown headings that stand above it, outermost first."""


def split(text: str, path: PurePosixPath) -> list[Chunk]:
    """The chunks of a text in order. Their kind is told by the path's suffix; whitespace between them is dropped."""
    headings = _headings(text) if path.suffix.lower() in MARKDOWN else []
    chunks: list[Chunk] = []
    line, position, next_heading = 1, 0, 0
    above: tuple[tuple[int, str], ...] = ()
    for start, piece in _splitter(_language(path)).chunk_indices(text):
        line += text.count("\n", position, start)
        position = start
        last = line + piece.count("\n")
        # A heading inside a chunk belongs to what follows it, so only those that stand before it are above it.
        while next_heading < len(headings) and headings[next_heading][0] < line:
            _, level, title = headings[next_heading]
            above = (*(item for item in above if item[0] < level), (level, title))
            next_heading += 1
        chunks.append(Chunk(piece, line, last, tuple(title for _, title in above)))
    return chunks


def _language(path: PurePosixPath) -> str:
    suffix = path.suffix.lower()
    if suffix in PYTHON:
        return "python"
    if suffix in MARKDOWN:
        return "markdown"
    return "code" if suffix in CODE else "prose"


@cache
def _splitter(language: str) -> _Splitter:
    from semantic_text_splitter import CodeSplitter, MarkdownSplitter, TextSplitter

    if language == "python":
        import tree_sitter_python

        # The grammar is a wheel of its own: grammar packs that download at run time fail offline.
        return CodeSplitter(tree_sitter_python.language(), CODE_CHARACTERS)
    if language == "markdown":
        return MarkdownSplitter(PROSE_CHARACTERS)
    return TextSplitter(CODE_CHARACTERS if language == "code" else PROSE_CHARACTERS)


def _headings(text: str) -> list[tuple[int, int, str]]:
    """(line, level, title) of each ATX heading outside code fences."""
    return list(_find_headings(text.split("\n")))


def _find_headings(lines: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    fence = ""
    for number, line in enumerate(lines, 1):
        if match := _FENCE.match(line):
            mark = match.group(1)
            if not fence:
                fence = mark
            elif mark.startswith(fence):
                fence = ""
        elif not fence and (heading := _HEADING.match(line)):
            yield number, len(heading.group(1)), heading.group(2)

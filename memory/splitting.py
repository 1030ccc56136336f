"""Text into chunks: pieces small enough for the embedder, cut where the text itself has its joints.

Knows prose, Markdown and the syntax of some programming languages; every chunk knows its lines, and of Markdown the
headings above it. Does not know files, tokens of any model, or the store.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import PurePosixPath
from typing import Protocol

PROSE_CHARACTERS = 850
"""About 200 tokens of the default embedder, which reads 256. Counting tokens instead splits a hundred times slower."""
CODE_CHARACTERS = 700

# The grammars are wheels of their own: packs that download at run time fail offline.
GRAMMARS = {
    ".bash": "bash",
    ".c": "c",
    ".cc": "cpp",
    ".cpp": "cpp",
    ".cs": "c_sharp",
    ".cxx": "cpp",
    ".go": "go",
    ".h": "cpp",
    ".hpp": "cpp",
    ".java": "java",
    ".js": "javascript",
    ".jsx": "javascript",
    ".mjs": "javascript",
    ".php": "php",
    ".py": "python",
    ".pyi": "python",
    ".rb": "ruby",
    ".rs": "rust",
    ".sh": "bash",
    ".swift": "swift",
    ".ts": "typescript",
    ".tsx": "tsx",
}
_GRAMMAR_OF = {"php": ("php", "language_php"), "tsx": ("typescript", "language_tsx")} | {
    "typescript": ("typescript", "language_typescript")
}
"""(wheel, function) where they are not named after the language."""
MARKDOWN = frozenset({".md", ".markdown", ".mdx", ".qmd"})
# fmt: off
CODE = frozenset({
    ".clj", ".css", ".dart", ".el", ".erl", ".ex", ".exs", ".fs", ".hs", ".jl", ".json", ".kt", ".lua", ".m", ".ml",
    ".mm", ".nim", ".pl", ".proto", ".ps1", ".r", ".scala", ".sql", ".tf", ".toml", ".vue", ".xml", ".yaml", ".yml",
    ".zig",
})
# fmt: on
"""Code without a grammar here: cut at lines, smaller than prose."""

_ENDLESS = re.compile(r"\S{4000}(?=\S)")
"""The splitter's time grows with the square of the length of a word: 100 s for one of 4 MB."""
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
    for start, piece in _pieces(_splitter(_language(path)), text):
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


def _pieces(splitter: _Splitter, text: str) -> Iterator[tuple[int, str]]:
    """(position, piece) of each chunk, in order; a word without end is cut before the splitter sees it."""
    start = 0
    for end in (*(match.end() for match in _ENDLESS.finditer(text)), len(text)):
        for offset, piece in splitter.chunk_indices(text[start:end]):
            yield start + offset, piece
        start = end


def _language(path: PurePosixPath) -> str:
    suffix = path.suffix.lower()
    if suffix in GRAMMARS:
        return GRAMMARS[suffix]
    if suffix in MARKDOWN:
        return "markdown"
    return "code" if suffix in CODE else "prose"


@cache
def _splitter(language: str) -> _Splitter:
    from semantic_text_splitter import CodeSplitter, MarkdownSplitter, TextSplitter

    if language == "markdown":
        return MarkdownSplitter(PROSE_CHARACTERS)
    if language in ("code", "prose"):
        return TextSplitter(CODE_CHARACTERS if language == "code" else PROSE_CHARACTERS)
    wheel, function = _GRAMMAR_OF.get(language, (language, "language"))
    return CodeSplitter(getattr(import_module(f"tree_sitter_{wheel}"), function)(), CODE_CHARACTERS)


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

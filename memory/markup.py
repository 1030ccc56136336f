"""HTML as text, line for line: what is read in a browser, at the lines where it stands in the file.

Knows which tags are no text, which begin a new paragraph, and headings, which become those of Markdown. Does not know
files or splitting.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

SUFFIXES = frozenset({".html", ".htm", ".xhtml"})
_SILENT = frozenset({"script", "style", "template", "svg", "noscript"})
_SPACES = re.compile(r"[ \t]*\n[ \t]*|[ \t]+")
_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}
# fmt: off
_BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "br", "dd", "div", "dl", "dt", "figcaption", "figure", "footer",
    "form", "header", "hr", "li", "main", "nav", "ol", "p", "pre", "section", "table", "td", "th", "tr", "ul",
})
# fmt: on


def plain(html: str) -> str:
    """The words of a page. A word stands in the line in which it stands in `html`."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return "".join(reader.pieces)


def _one(spaces: re.Match[str]) -> str:
    return "\n" if "\n" in spaces[0] else " "


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._line = 1
        self._fresh = True
        """Whether nothing stands in the line yet."""
        self._verbatim = 0
        self._silent: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SILENT:
            self._silent.append(tag)
        elif tag in _HEADINGS:
            self._say("")
            self._say(_HEADINGS[tag] if self._fresh else " ")
        elif tag in _BLOCKS:
            self._verbatim += tag == "pre"
            self._say(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._silent:
            # An unclosed <noscript> or the like ends with what it stands in.
            del self._silent[self._silent.index(tag) :]
        elif tag in _BLOCKS or tag in _HEADINGS:
            self._verbatim -= tag == "pre" and self._verbatim > 0
            self._say(" ")

    def handle_data(self, data: str) -> None:
        self._say(data if self._verbatim else _SPACES.sub(_one, data))

    def _say(self, text: str) -> None:
        if self._silent:
            return
        behind = self.getpos()[0] - self._line
        if behind > 0:
            self.pieces.append("\n" * behind)
            self._line += behind
            self._fresh = True
        if self._fresh and not self._verbatim:
            text = text.lstrip(" ")
        elif self.pieces and self.pieces[-1].startswith("#"):
            text = text.lstrip()
        self.pieces.append(text)
        self._line += text.count("\n")
        if text:
            self._fresh = text.endswith("\n")

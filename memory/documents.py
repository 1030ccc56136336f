"""Documents that must be unpacked before they can be read: PDF, Word, notebooks.

Knows their formats through well-kept readers and what makes one unreadable. Does not know files or splitting. Run as a
module it reads one document from stdin, in a process of its own that has a limit of memory: such files come from
anywhere, and one of them must not take the house with it.

    python -P -m memory.documents SUFFIX  <document  >{"parts": [[text, suffix, place, unit], ...]} or {"reason": ...}
"""

from __future__ import annotations

import io
import json
import logging
import resource
import sys
import zipfile
from collections.abc import Callable, Iterator

PART = tuple[str, str, dict[str, int], str]
"""Text, suffix that tells how it is split, place, and what its lines are."""

MAX_PAGES = 5_000
UNPACKED_BYTES = 100_000_000
"""A Word file that unpacks to more is a bomb or holds nothing but pictures."""
MEMORY_BYTES = 2_000_000_000
MAX_TEXT = 50_000_000
"""Characters of one document: some fifty thick books."""


class Unreadable(Exception):
    """No text can be had from it; the message says why."""


def read_pdf(data: bytes) -> Iterator[PART]:
    """The text of each page that has some."""
    from pypdf import PdfReader
    from pypdf.errors import DependencyError, PyPdfError

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        reader = PdfReader(io.BytesIO(data))
        # Many are encrypted with an empty password, only to forbid printing.
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("encrypted: a password is needed")
        pages = len(reader.pages)
        if pages > MAX_PAGES:
            raise Unreadable(f"more than {MAX_PAGES:,} pages ({pages:,})")
        for number, page in enumerate(reader.pages, 1):
            if (text := page.extract_text()).strip():
                yield text, ".txt", {"page": number}, "lines"
    except DependencyError as error:
        raise Unreadable("encrypted: a password is needed") from error
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, OSError) as error:
        raise Unreadable(f"a broken PDF: {error}") from error


def read_docx(data: bytes) -> Iterator[PART]:
    """One Markdown text, in which each paragraph and each row of a table is one line."""
    import docx
    from docx.opc.exceptions import OpcError
    from docx.table import Table

    if data.startswith(b"\xd0\xcf\x11\xe0"):
        raise Unreadable("encrypted, or of Word before 2007")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            # Of each entry no more is ever unpacked than it says here.
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > UNPACKED_BYTES:
            raise Unreadable(f"unpacks to {unpacked / 1e6:,.0f} MB, more than {UNPACKED_BYTES / 1e6:,.0f} MB")
        lines: list[str] = []
        for item in docx.Document(io.BytesIO(data)).iter_inner_content():
            if isinstance(item, Table):
                lines += [" | ".join(cell.text.replace("\n", " ") for cell in row.cells) for row in item.rows]
            else:
                style = (item.style.name if item.style is not None else "") or ""
                level = style.removeprefix("Heading ")
                mark = "#" * min(int(level), 6) + " " if level.isdecimal() else ""
                lines.append(mark + " ".join(item.text.split("\n")))
    except (zipfile.BadZipFile, OpcError, KeyError, ValueError, SyntaxError, OSError, RuntimeError) as error:
        raise Unreadable(f"a broken Word file: {error}") from error
    yield "\n".join(lines), ".md", {}, "paragraphs"


def read_notebook(data: bytes) -> Iterator[PART]:
    """The source of each cell; what it printed is left out."""
    try:
        notebook = json.loads(data)
        cells = notebook["cells"]
        language = str(notebook.get("metadata", {}).get("language_info", {}).get("file_extension", ".py"))
        for number, cell in enumerate(cells, 1):
            source = cell["source"]
            text = source if isinstance(source, str) else "".join(source)
            if text.strip():
                yield text, language if cell["cell_type"] == "code" else ".md", {"cell": number}, "lines"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Unreadable(f"a broken notebook: {type(error).__name__}") from error


READERS: dict[str, Callable[[bytes], Iterator[PART]]] = {
    ".pdf": read_pdf,
    ".docx": read_docx,
    ".ipynb": read_notebook,
}
SUFFIXES = frozenset(READERS)


def main(suffix: str) -> None:
    """Reads the document on stdin and answers on stdout."""
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    answer: dict[str, object]
    try:
        parts = list(READERS[suffix](sys.stdin.buffer.read()))
        if sum(len(part[0]) for part in parts) > MAX_TEXT:
            raise Unreadable(f"more than {MAX_TEXT // 1_000_000} million characters")
        answer = {"parts": parts} if any(part[0].strip() for part in parts) else {"reason": "no text in it"}
        if not parts and suffix == ".pdf":
            answer = {"reason": "no text in it: scanned pages?"}
    except Unreadable as error:
        answer = {"reason": str(error)}
    except MemoryError:
        answer = {"reason": "needs too much memory to be read"}
    except RecursionError:
        answer = {"reason": "nested too deeply"}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1])

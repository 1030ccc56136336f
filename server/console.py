"""What a person sees of a command: results on stdout, progress and errors on stderr.

Knows rich; does not know the commands.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from engine.errors import SoulError

if TYPE_CHECKING:
    from server.calling import Progress

OUT = Console(highlight=False)
ERR = Console(stderr=True, highlight=False)
UUID_CHARACTERS = 36


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A plain table. Cells are shown as they are, whatever brackets they hold; an id that stands first is never folded,
    so that it can be copied."""
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        made.add_column(title, overflow="fold")
    made.columns[0].min_width = min(UUID_CHARACTERS, max((len(row[0]) for row in rows), default=0))
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def print_json(value: Any) -> None:
    """The value as JSON on stdout, never wrapped or coloured: for programs."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def fail(error: SoulError) -> int:
    """Shows fact and remedy on stderr; the exit status of a failed command."""
    ERR.print(f"error: {error.fact}", style="red", markup=False, soft_wrap=True)
    if error.remedy:
        ERR.print(error.remedy, markup=False, soft_wrap=True)
    return 1


@contextmanager
def progress_bar() -> Generator[Progress]:
    """A bar on stderr while the block runs; nothing where stderr is no terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=ERR, transient=True)
    with bar:
        task = bar.add_task("asking the daemon", total=None)

        def told(detail: str, fraction: float | None) -> None:
            bar.update(
                task, description=detail[:60], total=1.0 if fraction is not None else None, completed=fraction or 0
            )

        yield told

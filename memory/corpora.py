"""Corpora: bodies of text and code that an agent puts on one at a time.

Knows how a folder becomes packets of a corpus, how a second run touches only what changed, and who wears what. Does
not know how files are found and split (`memory.files`, `memory.splitting`) nor how they are searched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from engine.errors import Conflict, InvalidInput, NotFound
from memory import files, postings
from memory.indexing import Source, apply, read_sources

if TYPE_CHECKING:
    import asyncpg

    from memory.database import Database

Progress = Callable[[int, int, str], Awaitable[None]]
"""Called with files done, files in all, and what is being done."""

RESERVED = frozenset({"*", "all", "lived", "memory", "none", "notebook", "self", "window"})
_NAME = re.compile(r"[^\W_][\w.-]{0,63}")
MAX_SKIPPED = 200
"""Files passed over of which the path and the reason are kept; the count is complete."""


@dataclass(frozen=True)
class CorpusInfo:
    """What a corpus is and how fresh."""

    name: str
    path: Path
    files: int
    chunks: int
    bytes: int
    owed: int
    """Chunks that are found by their words alone so far."""
    indexed: datetime | None
    terms: tuple[str, ...]
    """Words that stand out in it, most telling first."""
    mounted: bool
    """Whether any agent wears it."""
    skipped: tuple[tuple[str, str], ...]
    """(path, reason) of files that were passed over, the first `MAX_SKIPPED`."""


@dataclass(frozen=True)
class Mounted:
    """What mounting did."""

    info: CorpusInfo
    unmounted: tuple[str, ...]
    """What the agent wore before."""


_COLUMNS = """c.name, c.path, c.files, c.chunks, c.bytes, c.indexed, c.terms, c.skipped::text AS skipped,
       (SELECT count(*) FROM owed WHERE owed.corpus_id = c.id) AS owed"""

_MOUNTED = "EXISTS (SELECT FROM mounts WHERE corpus_id = c.id) AS mounted"


class Corpora:
    """Adds, refreshes, removes and mounts corpora."""

    def __init__(
        self, database: Database, allowed_roots: Sequence[Path], written: Callable[[], None] = lambda: None
    ) -> None:
        """`written` is called after each commit; it wakes whoever makes the vectors."""
        self._database = database
        self._allowed_roots = tuple(allowed_roots)
        self._written = written
        # One at a time: adding a partition and dropping one each wait for every statement on packets, and a long write
        # in front of such a wait would hold up every recall behind it.
        self._writing = anyio.Lock()

    # -- what there is

    LIST = f"SELECT {_COLUMNS}, {_MOUNTED} FROM corpora c ORDER BY name"

    async def list(self) -> tuple[CorpusInfo, ...]:
        """All corpora by name."""
        return tuple(_info(row) for row in await self._database.fetch(self.LIST))

    INFO = f"SELECT {_COLUMNS}, {_MOUNTED} FROM corpora c WHERE name = $1"

    async def info(self, name: str) -> CorpusInfo:
        """One corpus.

        Raises:
            NotFound: there is none of that name.
        """
        row = await self._database.fetchrow(self.INFO, name)
        if row is None:
            raise await self._unknown(name)
        return _info(row)

    # -- what is in them

    async def add(
        self, name: str, path: Path, progress: Progress | None = None, *, anywhere: bool = False
    ) -> CorpusInfo:
        """Indexes a folder or one file under a name; when it is there already, brings it up to date.

        Its words can be searched when this returns, its meaning little by little after that. Nobody sees a half of it.
        `anywhere` is for the person at the shell, who may name any folder; clients are held to the allowed roots.

        Raises:
            InvalidInput: the name is reserved or not plain, the path holds no text.
            Conflict: the name stands for another path.
            NotFound, Forbidden: see `files.resolved`.
        """
        _check_name(name)
        real = await anyio.to_thread.run_sync(files.resolved, path, [Path("/")] if anywhere else self._allowed_roots)
        async with self._writing:
            known = await self._database.fetchrow(self.PATH, name)
            if known is not None and Path(known["path"]) != real:
                raise Conflict(
                    f"The corpus {name!r} is already made of {known['path']}.",
                    f"Choose another name, or remove it first: soul corpus remove {name}",
                )
            await self._index(name, real, progress)
        return await self.info(name)

    PATH = "SELECT path FROM corpora WHERE name = $1"

    async def refresh(self, name: str, progress: Progress | None = None) -> CorpusInfo:
        """Looks at its path again and takes over what changed.

        Raises:
            NotFound: no such corpus, or its path is gone (it stays as it is).
        """
        row = await self._database.fetchrow(self.PATH, name)
        if row is None:
            raise await self._unknown(name)
        # The path was accepted when the corpus was added, perhaps from the shell.
        return await self.add(name, Path(row["path"]), progress, anywhere=True)

    REMOVE = "DELETE FROM corpora WHERE name = $1 RETURNING id"

    async def remove(self, name: str) -> None:
        """Forgets a corpus: its packets, their derived rows, its mounts. The files stay where they are.

        Raises:
            NotFound: there is none of that name.
        """

        async def work(connection: asyncpg.Connection) -> bool:
            corpus_id = await connection.fetchval(self.REMOVE, name)
            if corpus_id is None:
                return False
            # The partition first: whoever stores vectors locks packets before traces, too.
            await connection.execute("SET LOCAL statement_timeout = 0")
            await connection.execute("SELECT drop_packets_partition($1)", corpus_id)
            await postings.remove_corpus(connection, corpus_id)
            return True

        async with self._writing:
            if not await self._database.run(work):
                raise await self._unknown(name)
        self._written()

    FILES = "SELECT f.path, f.hash FROM corpus_files f JOIN corpora c ON c.id = f.corpus_id WHERE c.name = $1"

    async def _index(self, name: str, real: Path, progress: Progress | None) -> None:
        found = await anyio.to_thread.run_sync(files.listing, real)
        known = {str(row["path"]): str(row["hash"]) for row in await self._database.fetch(self.FILES, name)}
        sources: list[Source] = []
        skipped = list(found.skipped)
        async for done, source in read_sources(found, known):
            if isinstance(source, Source):
                sources.append(source)
            else:
                skipped.append(source)
            if progress is not None:
                await progress(done, len(found.paths), source.path if isinstance(source, Source) else source[0])
        if not sources:
            reasons = "; ".join(f"{path}: {reason}" for path, reason in skipped[:3])
            raise InvalidInput(
                f"{real} holds no text" + (f" ({reasons})." if reasons else "."),
                "Give a folder with text or code in UTF-8 that is neither hidden nor ignored.",
            )
        if progress is not None:
            await progress(len(found.paths), len(found.paths), "storing")

        async def work(connection: asyncpg.Connection) -> None:
            await apply(connection, name, real, sources, skipped[:MAX_SKIPPED])

        await self._database.run(work)
        self._written()

    # -- who wears what

    # One statement, so one round trip: the check, what goes, what comes, and what is in it. Its commit does not wait
    # for the disk, which took 0.7 of 1.3 ms: a crash within the next half second may bring the former outfit back,
    # and nothing that was said depends on it.
    MOUNT = f"""
    WITH wanted AS (SELECT id FROM corpora WHERE name = $2),
    gone AS (
        DELETE FROM mounts WHERE agent = $1 AND EXISTS (SELECT FROM wanted)
            AND corpus_id <> (SELECT id FROM wanted) RETURNING corpus_id
    ), worn AS (
        INSERT INTO mounts (agent, corpus_id) SELECT $1, id FROM wanted ON CONFLICT DO NOTHING
    )
    SELECT {_COLUMNS}, true AS mounted, set_config('synchronous_commit', 'off', true),
           ARRAY(SELECT name FROM gone JOIN corpora ON corpora.id = gone.corpus_id ORDER BY name) AS unmounted
    FROM corpora c WHERE c.name = $2
    """

    async def mount(self, agent: str, name: str) -> Mounted:
        """Puts a corpus on in place of what the agent wears.

        Raises:
            NotFound: there is none of that name; the agent keeps what it wears.
        """
        row = await self._database.fetchrow(self.MOUNT, _agent(agent), name)
        if row is None:
            raise await self._unknown(name)
        return Mounted(_info(row), tuple(row["unmounted"]))

    UNMOUNT = """
    DELETE FROM mounts USING corpora WHERE mounts.agent = $1 AND corpora.id = mounts.corpus_id AND corpora.name = $2
    RETURNING name
    """

    async def unmount(self, agent: str, name: str) -> None:
        """Takes a corpus off.

        Raises:
            NotFound: the agent does not wear it.
        """
        if await self._database.fetchval(self.UNMOUNT, _agent(agent), name) is None:
            worn = ", ".join(await self.mounted(agent)) or "nothing"
            raise NotFound(f"The agent {agent!r} has not mounted {name!r}.", f"It has mounted: {worn}.")

    MOUNTED = """
    SELECT name FROM mounts JOIN corpora ON corpora.id = mounts.corpus_id WHERE agent = $1 ORDER BY since, name
    """

    async def mounted(self, agent: str) -> tuple[str, ...]:
        """The names of what an agent wears."""
        return tuple(row["name"] for row in await self._database.fetch(self.MOUNTED, _agent(agent)))

    NAMES = "SELECT name FROM corpora ORDER BY name"

    async def _unknown(self, name: str) -> NotFound:
        names = [str(row["name"]) for row in await self._database.fetch(self.NAMES)]
        known = f"Known are: {', '.join(names)}." if names else "Index one first: soul corpus add NAME PATH."
        return NotFound(f"There is no corpus {name[:80]!r}.", known)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{name[:80]!r} cannot name a corpus.",
            "Use 1 to 64 letters, digits, dots, hyphens and underscores, beginning with a letter or digit.",
        )
    if name.lower() in RESERVED:
        raise InvalidInput(f"The name {name!r} is reserved.", f"Reserved are: {', '.join(sorted(RESERVED))}.")


def _agent(agent: str) -> str:
    if not agent or len(agent) > 64 or "\x00" in agent:
        raise InvalidInput(f"{agent[:80]!r} cannot name an agent.", "Use 1 to 64 plain characters.")
    return agent


def _info(row: asyncpg.Record) -> CorpusInfo:
    return CorpusInfo(
        name=row["name"],
        path=Path(row["path"]),
        files=row["files"],
        chunks=row["chunks"],
        bytes=row["bytes"],
        owed=row["owed"],
        indexed=row["indexed"],
        terms=tuple(row["terms"]),
        mounted=row["mounted"],
        skipped=tuple((path, reason) for path, reason in json.loads(row["skipped"])),
    )

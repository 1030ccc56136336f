"""Corpora: bodies of text and code that an agent puts on.

Knows their names and paths, and who wears what. Does not know how files become packets (`memory.indexing`), nor how
they are searched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from engine.errors import Conflict, InvalidInput, NotFound
from memory import files, postings
from memory.describing import describe
from memory.indexing import Outcome, Progress, bring_up_to_date
from memory.languages import LANGUAGES
from memory.reading import FILE_MB

if TYPE_CHECKING:
    import asyncpg

    from memory.database import Database

RESERVED = frozenset({"*", "all", "lived", "memory", "none", "notebook", "self", "window"})
_NAME = re.compile(r"[^\W_][\w.-]{0,63}")
MAX_MOUNTED = 16
"""Corpora that an agent wears at once; the card of each stands in its context."""


@dataclass(frozen=True)
class CorpusInfo:
    """What a corpus is and how fresh."""

    name: str
    path: Path | None
    """None: it was imported and follows no folder."""
    files: int
    chunks: int
    bytes: int
    owed: int
    """Chunks that are found by their words alone so far."""
    indexed: datetime | None
    terms: tuple[str, ...]
    """Words that stand out in it, most telling first."""
    kinds: tuple[str, ...]
    """`Markdown 120`: of what kinds its files are, most frequent first."""
    sources: tuple[str, ...]
    """`docs/ 80`: the folders in which most of them lie."""
    mounted: bool
    """Whether any agent wears it."""
    skipped: tuple[tuple[str, str], ...]
    """(path, reason) of files that were passed over, the first `indexing.MAX_SKIPPED`."""
    doubtful: tuple[tuple[str, str], ...]
    """(path, why) of files that are indexed and may have been misread, as many at most."""


@dataclass(frozen=True)
class Mounted:
    """What mounting did."""

    infos: tuple[CorpusInfo, ...]
    """In the order in which they were named."""
    unmounted: tuple[str, ...]
    """What the agent wore before."""


DESCRIBE_FROM = 100
"""A corpus is described anew when one of so many of its files has changed."""

_COLUMNS = """c.name, c.path, c.files, c.chunks, c.bytes, c.indexed, c.terms, c.kinds, c.sources,
       c.skipped::text AS skipped, c.doubtful::text AS doubtful,
       (SELECT count(*) FROM owed WHERE owed.corpus_id = c.id) AS owed"""

_MOUNTED = "EXISTS (SELECT FROM mounts WHERE corpus_id = c.id) AS mounted"


class Corpora:
    """Adds, refreshes, removes and mounts corpora."""

    def __init__(
        self,
        database: Database,
        allowed_roots: Sequence[Path],
        written: Callable[[], None] = lambda: None,
        file_mb: float = FILE_MB,
    ) -> None:
        """`written` is called after each commit; it wakes whoever makes the vectors. Text files above `file_mb` are
        passed over."""
        self._database = database
        self._allowed_roots = tuple(allowed_roots)
        self._written = written
        self._file_mb = file_mb
        self._undescribed: dict[int, int] = {}
        """Files of a corpus that changed since it was last described."""
        self.dressed: Callable[[], None] = lambda: None
        """Called when an agent put something on or off; it wakes whoever watches the files."""
        # One at a time: adding a partition and dropping one each wait for every statement on packets, and a long write
        # in front of such a wait would hold up every recall behind it.
        self.writing = anyio.Lock()

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
        self,
        name: str,
        path: Path,
        progress: Progress | None = None,
        *,
        anywhere: bool = False,
        language: str | None = None,
    ) -> CorpusInfo:
        """Indexes a folder or one file under a name; when it is there already, brings it up to date.

        Its words can be searched when this returns, its meaning little by little after that. Nobody sees a half of it.
        `anywhere` is for the person at the shell, who may name any folder; clients are held to the allowed roots.
        `language` is the one whose stems its words are found by (`memory.languages`); without it each text's own.

        Raises:
            InvalidInput: the name is reserved or not plain, the path holds no text, the language is not known.
            Conflict: the name stands for another path, or its words were indexed in another language.
            NotFound, Forbidden: see `files.resolved`.
        """
        check_name(name)
        if language is not None and language not in LANGUAGES:
            raise InvalidInput(f"There is no stemmer for {language[:80]!r}.", f"There are: {', '.join(LANGUAGES)}.")
        real = await anyio.to_thread.run_sync(files.resolved, path, [Path("/")] if anywhere else self._allowed_roots)
        await self._index(self.ENTER, name, real, progress, language)
        return await self.info(name)

    PATH = "SELECT path FROM corpora WHERE name = $1"

    async def refresh(self, name: str, progress: Progress | None = None) -> CorpusInfo:
        """Looks at its path again and takes over what changed.

        Raises:
            NotFound: no such corpus, or its path is gone (it stays as it is).
            Conflict: its path leads somewhere else now.
            InvalidInput: it was imported and has no path, or its path holds no text.
        """
        await self.look_again(name, progress)
        return await self.info(name)

    async def look_again(self, name: str, progress: Progress | None = None) -> int:
        """As `refresh`; how many files were new, changed or gone."""
        row = await self._database.fetchrow(self.PATH, name)
        if row is None:
            raise await self._unknown(name)
        if not row["path"]:
            raise InvalidInput(
                f"The corpus {name!r} was imported and follows no folder.",
                f"If its files lie here, say where: soul corpus add {name} PATH",
            )
        # The path was accepted when the corpus was added, perhaps from the shell.
        real = await anyio.to_thread.run_sync(files.resolved, Path(row["path"]), [Path("/")])
        if str(real) != row["path"]:
            raise Conflict(
                f"The path {row['path']} of the corpus {name!r} leads to {real} now.",
                f"If that is meant, make it anew: soul corpus remove {name}, then soul corpus add {name} {real}",
            )
        return (await self._index(self.ENTER_AGAIN, name, real, progress, None)).changed

    # The row is locked until the commit: two processes that index one corpus do so one after the other.
    ENTER = """
    INSERT INTO corpora (name, path, language) VALUES ($1, $2, $3)
    ON CONFLICT (name) DO UPDATE SET path = CASE corpora.path WHEN '' THEN excluded.path ELSE corpora.path END
    RETURNING id, path, language, indexed IS NULL AS new
    """

    # One that was removed while its files were looked for is not made again.
    ENTER_AGAIN = """
    SELECT id, path, language, false AS new FROM corpora WHERE name = $1 AND path = $2 AND $3::text IS NULL FOR UPDATE
    """

    async def _index(
        self, enter: str, name: str, real: Path, progress: Progress | None, language: str | None
    ) -> Outcome:
        async def work(connection: asyncpg.Connection) -> Outcome:
            # Reading goes on inside the transaction, and a large folder takes its time.
            await connection.execute(
                "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"
            )
            row = await connection.fetchrow(enter, name, str(real), language)
            if row is None:
                raise await self._unknown(name)
            if row["path"] != str(real):
                raise Conflict(
                    f"The corpus {name!r} is already made of {row['path']}.",
                    f"Choose another name, or remove it first: soul corpus remove {name}",
                )
            if language not in (None, row["language"]):
                raise Conflict(
                    f"The words of {name!r} are indexed in {row['language'] or 'the language of each text'}.",
                    f"Index it anew: soul corpus remove {name}, then add it with --language {language}.",
                )
            if row["new"]:
                await connection.execute("SELECT add_packets_partition($1)", row["id"])
            found = await anyio.to_thread.run_sync(files.listing, real)
            outcome = await bring_up_to_date(connection, row["id"], found, self._file_mb, progress, row["language"])
            if not outcome.files:
                reasons = "; ".join(f"{path}: {reason}" for path, reason in outcome.skipped[:3])
                raise InvalidInput(
                    f"{real} holds no text" + (f" ({reasons})." if reasons else "."),
                    "Give a folder with text, code or documents that are neither hidden nor ignored.",
                )
            return outcome

        async with self.writing:
            outcome = await self._database.run(work)
            if outcome.changed:
                self._written()
                await self._describe(outcome)
        return outcome

    async def _describe(self, outcome: Outcome) -> None:
        # It looks at every file of the corpus, and what one file in a hundred says hardly changes what all are about.
        # A restart forgets the count, at the cost of a card that is that little out of date.
        pending = self._undescribed.pop(outcome.corpus_id, 0) + outcome.changed
        if pending * DESCRIBE_FROM < outcome.files:
            self._undescribed[outcome.corpus_id] = pending
            return
        await self._database.run(lambda connection: describe(connection, outcome.corpus_id))

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

        async with self.writing:
            if not await self._database.run(work):
                raise await self._unknown(name)
        self._written()
        self.dressed()

    # -- who wears what

    # One statement, so one round trip: the check, what goes, what comes, and what is in it. Its commit does not wait
    # for the disk, which took 0.7 of 1.3 ms: a crash within the next half second may bring the former outfit back,
    # and nothing that was said depends on it.
    MOUNT = f"""
    WITH wanted AS (SELECT id FROM corpora WHERE name = ANY($2::text[])),
    complete AS (SELECT count(*) = cardinality($2::text[]) AS yes FROM wanted),
    gone AS (
        DELETE FROM mounts WHERE agent = $1 AND (SELECT yes FROM complete)
            AND corpus_id NOT IN (SELECT id FROM wanted) RETURNING corpus_id
    ), worn AS (
        INSERT INTO mounts (agent, corpus_id) SELECT $1, id FROM wanted WHERE (SELECT yes FROM complete)
        ON CONFLICT DO NOTHING
    )
    SELECT {_COLUMNS}, true AS mounted, set_config('synchronous_commit', 'off', true),
           ARRAY(SELECT name FROM gone JOIN corpora ON corpora.id = gone.corpus_id ORDER BY name) AS unmounted
    FROM corpora c WHERE c.name = ANY($2::text[])
    """

    async def mount(self, agent: str, *names: str) -> Mounted:
        """Puts corpora on in place of all that the agent wears.

        Raises:
            NotFound: there is none of one of the names; the agent keeps what it wears.
            InvalidInput: no name, or too many.
        """
        names = tuple(dict.fromkeys(names))
        if not 1 <= len(names) <= MAX_MOUNTED:
            raise InvalidInput(f"{len(names)} corpora are named.", f"Name 1 to {MAX_MOUNTED} of them.")
        rows = {row["name"]: row for row in await self._database.fetch(self.MOUNT, _agent(agent), list(names))}
        for name in names:
            if name not in rows:
                raise await self._unknown(name)
        self.dressed()
        return Mounted(tuple(_info(rows[name]) for name in names), tuple(rows[names[0]]["unmounted"]))

    UNMOUNT = """
    DELETE FROM mounts USING corpora WHERE mounts.agent = $1 AND corpora.id = mounts.corpus_id AND corpora.name = $2
    RETURNING name
    """

    async def unmount(self, agent: str, *names: str) -> None:
        """Takes corpora off.

        Raises:
            NotFound: the agent does not wear one of them.
        """
        for name in names:
            if await self._database.fetchval(self.UNMOUNT, _agent(agent), name) is None:
                worn = ", ".join(await self.mounted(agent)) or "nothing"
                raise NotFound(f"The agent {agent!r} has not mounted {name!r}.", f"It has mounted: {worn}.")
        self.dressed()

    WORN = """
    SELECT name, path FROM corpora c WHERE path <> '' AND EXISTS (SELECT FROM mounts WHERE corpus_id = c.id)
    ORDER BY name
    """

    async def worn(self) -> dict[str, Path]:
        """Name and path of every corpus that any agent wears and that follows a folder."""
        return {str(row["name"]): Path(row["path"]) for row in await self._database.fetch(self.WORN)}

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


def check_name(name: str) -> None:
    """Raises InvalidInput where a name is not plain, or reserved."""
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
        path=Path(row["path"]) if row["path"] else None,
        files=row["files"],
        chunks=row["chunks"],
        bytes=row["bytes"],
        owed=row["owed"],
        indexed=row["indexed"],
        terms=tuple(row["terms"]),
        kinds=tuple(row["kinds"]),
        sources=tuple(row["sources"]),
        mounted=row["mounted"],
        skipped=tuple((path, reason) for path, reason in json.loads(row["skipped"])),
        doubtful=tuple((path, doubt) for path, doubt in json.loads(row["doubtful"])),
    )

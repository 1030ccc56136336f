"""Forgetting: what a person wants gone, found first and then taken out of every place where it stands.

Knows the tables that hold prose or what is made from it. Does not know the engine: whoever forgets also lets it compute
the agent's context anew (`agents.forgetting`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import anyio.to_thread

from engine.errors import InvalidInput, NotFound
from memory import lexemes, postings, scrubbing
from memory.languages import ENGLISH
from memory.postings import FIRST_CORPUS, LIVED, PRIVATE, TRAFFIC

if TYPE_CHECKING:
    import asyncpg

    from memory.corpora import Corpora
    from memory.database import Database

MOST = 10_000
"""Packets that one wish may name one by one; a corpus goes as a whole."""
SHOWN_CHARACTERS = 160
TELLING = 16
"""Characters from which a text is looked for in other places: `Yes.` stands everywhere and means nothing."""
QUOTED = 400
"""Characters of a text that are looked for: a window or an answer may show the head of a long one."""
MARK = "[forgotten]"


@dataclass(frozen=True)
class Wish:
    """What to forget: packets by id, those in which all words of `query` stand, or a whole corpus.

    `query` with `corpus` means those of that corpus; without, what was lived and its traffic.
    """

    ids: tuple[UUID, ...] = ()
    query: str = ""
    corpus: str = ""


@dataclass(frozen=True)
class Doomed:
    """One packet that goes. `words` are its first ones, for the person who decides."""

    id: UUID
    no: int
    corpus_id: int
    kind: str
    time: datetime
    agent: str
    words: str
    quoted: bool
    """It was not named itself: it is a call or a result that quotes one that was."""


@dataclass(frozen=True)
class Plan:
    """What would go, what would change, and what stays although the text stands in it."""

    packets: tuple[Doomed, ...]
    corpus: str
    """The corpus that goes as a whole, or ""."""
    corpus_packets: int
    window_turns: int
    """Turns of the window that go: the exchanges in which the text stands."""
    opening: bool
    """The start of the context holds it and is made anew."""
    records: int
    """Rows of jobs, outcomes and steps in which the text is blotted out."""
    generations: tuple[str, ...]
    """Trained generations that learned from it; their weights are not changed by this."""
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Text:
    """Prose to look for elsewhere, as it stands and as the fence shows it."""

    id: UUID
    prose: str

    @property
    def needle(self) -> str:
        return _plain(self.prose)[:QUOTED]


class Forgetting:
    """Plans a wish and carries it out."""

    def __init__(self, database: Database, corpora: Corpora, changed: Callable[[], None]) -> None:
        """`changed` is called after each commit; it wakes the upkeep."""
        self._database = database
        self._corpora = corpora
        self._changed = changed

    _FOUND = """SELECT t.id, t.no, t.corpus_id, t.kind, t.time, p.agent, p.prose, p.generation
                FROM traces t JOIN packets p ON p.corpus_id = t.corpus_id AND p.id = t.id"""
    BY_ID = f"{_FOUND} WHERE t.id = ANY($1::uuid[]) ORDER BY t.no"
    BY_WORDS = f"""{_FOUND} WHERE t.lexemes @> $1::int[]
                   AND CASE WHEN $2::int IS NULL THEN t.corpus_id < {FIRST_CORPUS} ELSE t.corpus_id = $2 END
                   ORDER BY t.no LIMIT {MOST + 1}"""
    SPOKEN = "SELECT name FROM languages"
    # Text and prose are compared with white space made alike.
    QUOTES = f"""{_FOUND}
                 WHERE (t.corpus_id = {TRAFFIC} OR t.corpus_id = {PRIVATE} AND t.kind IN ('call', 'result', 'event'))
                 AND position($1 IN regexp_replace(p.prose, '\\s+', ' ', 'g')) > 0 ORDER BY t.no"""
    CORPUS = "SELECT id FROM corpora WHERE name = $1"
    IN_CORPUS = "SELECT count(*) AS n, array_agg(DISTINCT generation) AS made FROM packets WHERE corpus_id = $1"
    CHUNKS = "SELECT id, prose FROM packets WHERE corpus_id = $1"

    async def plan(self, wish: Wish) -> Plan:
        """What carrying `wish` out would do; changes nothing.

        Raises:
            InvalidInput: the wish names nothing, or too much.
            NotFound: an id or a corpus does not exist, or no memory holds those words.
        """
        return (await self._look(wish))[0]

    async def carry_out(self, wish: Wish, by: str, reason: str) -> Plan:
        """Forgets, in one transaction; the plan as it was carried out. Raises what `plan` raises."""
        plan, texts = await self._look(wish)
        removed = list(plan.packets)

        async def work(connection: asyncpg.Connection) -> None:
            await connection.execute("SET LOCAL statement_timeout = 0")
            if plan.corpus:
                await connection.execute(AUDIT_CORPUS, plan.corpus, by, reason)
            for corpus_id in sorted({packet.corpus_id for packet in removed}):
                ids = [packet.id for packet in removed if packet.corpus_id == corpus_id]
                await connection.execute(AUDIT, corpus_id, ids, by, reason)
                # Packets before traces: whoever stores vectors meanwhile locks them in this order, too.
                await connection.execute(DELETE, corpus_id, ids)
                await postings.purge(connection, corpus_id, [p.no for p in removed if p.corpus_id == corpus_id])
                if corpus_id >= FIRST_CORPUS:
                    await connection.execute(FEWER, corpus_id, len(ids))
            await connection.execute(UNLEARN, [packet.id for packet in removed])
            await self._clear_windows(connection, texts)
            for text in () if plan.corpus else texts:
                if len(text.needle) >= TELLING:
                    for table, columns in RECORDS.items():
                        await connection.execute(_blot(table, columns), text.prose, MARK)
            await connection.execute(UNQUOTE, [str(text.id) for text in texts])

        await self._database.run(work)
        if plan.corpus:
            await self._corpora.remove(plan.corpus)
        self._changed()
        return plan

    async def scrub(self, plan: Plan) -> bool:
        """Takes the old bytes of what was carried out off the disk (`memory.scrubbing`)."""
        return await scrubbing.scrub(self._database, [packet.corpus_id for packet in plan.packets])

    # -- looking

    async def _look(self, wish: Wish) -> tuple[Plan, list[_Text]]:
        if not (wish.ids or wish.query.strip() or wish.corpus):
            raise InvalidInput("Nothing is named to be forgotten.", "Give ids, --query WORDS or --corpus NAME.")
        corpus_id = await self._corpus(wish.corpus) if wish.corpus else None
        whole = corpus_id is not None and not wish.query.strip() and not wish.ids
        rows = [] if whole else await self._rows(wish, corpus_id)
        texts = [_Text(row["id"], row["prose"]) for row in rows]
        generations = {str(row["generation"]) for row in rows}
        count = 0
        if whole:
            found = await self._database.fetchrow(self.IN_CORPUS, corpus_id)
            assert found is not None
            count, generations = int(found["n"]), set(found["made"] or ())
            texts = [_Text(row["id"], row["prose"]) for row in await self._database.fetch(self.CHUNKS, corpus_id)]
        quoting = await self._quoting(texts if not whole else [], {row["id"] for row in rows})
        doomed = [_doomed(row, False) for row in rows] + [_doomed(row, True) for row in quoting]
        touched = await anyio.to_thread.run_sync(
            _touched, await self._database.fetch(self.TURNS), await self._database.fetch(self.OPENINGS), texts
        )
        of_corpus = whole or any(row["corpus_id"] >= FIRST_CORPUS for row in rows)
        telling = [text for text in texts if len(text.needle) >= TELLING]
        warnings = await self._warnings(texts, of_corpus, () if whole else telling)
        plan = Plan(
            packets=tuple(doomed),
            corpus=wish.corpus if whole else "",
            corpus_packets=count,
            window_turns=sum(len(turns) for turns, _ in touched.values()),
            opening=any(opening for _, opening in touched.values()),
            # An answer cites a passage and does not hold it.
            records=0 if whole else await self._records(texts),
            generations=tuple(sorted(generations - {""})),
            warnings=tuple(warnings),
        )
        return plan, [*texts, *(_Text(row["id"], row["prose"]) for row in quoting)]

    async def _corpus(self, name: str) -> int:
        found = await self._database.fetchval(self.CORPUS, name)
        if found is None:
            raise NotFound(f"There is no corpus {name[:80]!r}.", "`soul corpus list` shows them.")
        return int(found)

    async def _rows(self, wish: Wish, corpus_id: int | None) -> list[asyncpg.Record]:
        rows: list[asyncpg.Record] = []
        if wish.ids:
            rows = await self._database.fetch(self.BY_ID, list(wish.ids))
            if unknown := set(wish.ids) - {row["id"] for row in rows}:
                raise NotFound(f"There is no memory {min(unknown)}.", "`soul recall` shows ids; nothing was forgotten.")
        if wish.query.strip():
            spoken = [str(row["name"]) for row in await self._database.fetch(self.SPOKEN)]
            in_each = {lexemes.of_query(wish.query, language) for language in (ENGLISH, *spoken)} - {()}
            if not in_each:
                raise InvalidInput(
                    f"{wish.query[:80]!r} has no word that tells anything.", "Name what is to be forgotten."
                )
            for words in in_each:
                found = await self._database.fetch(self.BY_WORDS, list(words), corpus_id)
                known = {row["id"] for row in rows}
                rows += [row for row in found if row["id"] not in known]
        if not rows:
            raise NotFound("No memory holds all of these words.", "Try fewer words; `soul recall` finds by meaning.")
        if len(rows) > MOST:
            raise InvalidInput(f"More than {MOST:,} memories hold these words.", "Say it with more words.")
        return rows

    async def _quoting(self, texts: Sequence[_Text], named: set[UUID]) -> list[asyncpg.Record]:
        """Calls and results that show one of the texts: what went between the parts, not what somebody said."""
        found: dict[UUID, asyncpg.Record] = {}
        for text in texts:
            if len(text.needle) >= TELLING:
                for row in await self._database.fetch(self.QUOTES, text.needle):
                    if row["id"] not in named:
                        found[row["id"]] = row
        return list(found.values())

    TURNS = "SELECT agent, sequence, role, content, packet FROM window_turns ORDER BY agent, sequence"
    # What stands in notebook and self stands in every opening, and a person changes it there.
    OPENINGS = """SELECT agent, opening_text,
                         coalesce((SELECT content FROM notebooks ORDER BY version DESC LIMIT 1), '') || ' ' ||
                         coalesce((SELECT content FROM selves ORDER BY version DESC LIMIT 1), '') AS told
                  FROM windows"""

    async def _clear_windows(self, connection: asyncpg.Connection, texts: Sequence[_Text]) -> None:
        touched = await anyio.to_thread.run_sync(
            _touched, await connection.fetch(self.TURNS), await connection.fetch(self.OPENINGS), texts
        )
        for agent, (turns, opening) in touched.items():
            if turns or opening:
                await connection.execute(CUT, agent, turns)
                await connection.execute(UNMAKE, agent)
                await connection.execute(HOLD, agent)

    async def _records(self, texts: Sequence[_Text]) -> int:
        telling = [text.prose for text in texts if len(text.needle) >= TELLING]
        counts = [await self._database.fetchval(_holding(*record), telling) for record in RECORDS.items()]
        return sum(map(int, counts))

    ORDERS = """SELECT id::text AS name, concat_ws(' ', task, array_to_string(constraints, ' '), context,
                                                   array_to_string(acceptance, ' '), why) AS text
                FROM orders ORDER BY created"""
    # Where the person or the Director wrote something of their own, of which a text is a part.
    STANDS: tuple[tuple[str, str], ...] = (
        ("notebook version {}", "SELECT version::text AS name, content AS text FROM notebooks ORDER BY version"),
        ("self version {}", "SELECT version::text AS name, content AS text FROM selves ORDER BY version"),
        ("self proposal {}", "SELECT id::text AS name, content AS text FROM self_proposals ORDER BY created"),
        ("work order {}", ORDERS),
        (
            "plan {}",
            "SELECT p.id::text AS name, concat_ws(' ', p.goal, array_to_string(p.constraints, ' '), p.context, p.why,"
            " string_agg(concat_ws(' ', s.task, s.acceptance), ' ')) AS text"
            " FROM plans p LEFT JOIN plan_steps s ON s.plan = p.id GROUP BY p.id ORDER BY p.created",
        ),
    )
    # Where it is blotted out, if it stands there word for word.
    REPORTED: tuple[tuple[str, str], ...] = (
        (
            "an outcome of work order {}",
            "SELECT work_order::text AS name, outcome || ' ' || array_to_string(artifacts, ' ') || ' ' || why AS text"
            " FROM order_attempts ORDER BY reported",
        ),
        (
            "an outcome in plan {}",
            "SELECT plan::text AS name, outcome || ' ' || why AS text FROM plan_steps ORDER BY plan, number",
        ),
        ("an attempt of plan {}", "SELECT plan::text AS name, outcome AS text FROM step_attempts ORDER BY began"),
    )
    LIVED_TOO = f"""SELECT id, prose FROM packets WHERE corpus_id IN ({LIVED}, {PRIVATE}) AND id <> ALL($1::uuid[])
                    AND position($2 IN regexp_replace(prose, '\\s+', ' ', 'g')) > 0 LIMIT 5"""

    async def _warnings(self, texts: Sequence[_Text], of_corpus: bool, blotted: Sequence[_Text]) -> list[str]:
        needles = [text.needle for text in texts if len(text.needle) >= TELLING]
        said: list[str] = []
        for name, statement in (*self.STANDS, *self.REPORTED):
            for row in await self._database.fetch(statement):
                words = row["text"]
                for text in blotted if (name, statement) in self.REPORTED else ():
                    words = words.replace(text.prose, MARK)
                if any(needle in _plain(words) for needle in needles):
                    said.append(f"It stands word for word in {name.format(row['name'])}, which stays as it is.")
        if not of_corpus:
            ids = [text.id for text in texts]
            for needle in needles[:50]:
                for row in await self._database.fetch(self.LIVED_TOO, ids, needle):
                    said.append(f"The memory {row['id']} quotes it and stays; name it, too, if it should go.")
        else:
            said.append("The files themselves stay where they are; indexing them again brings their passages back.")
        return list(dict.fromkeys(said))


AUDIT = """
INSERT INTO forgotten (id, by_whom, reason, content_hash, kind, corpus, generation)
SELECT p.id, $3, $4, p.content_hash, p.kind, c.name, p.generation
FROM packets p LEFT JOIN corpora c ON c.id = p.corpus_id WHERE p.corpus_id = $1 AND p.id = ANY($2::uuid[])
ON CONFLICT (id) DO NOTHING
"""
AUDIT_CORPUS = """
INSERT INTO forgotten (id, by_whom, reason, content_hash, kind, corpus, generation)
SELECT p.id, $2, $3, p.content_hash, p.kind, c.name, p.generation
FROM packets p JOIN corpora c ON c.id = p.corpus_id WHERE c.name = $1
ON CONFLICT (id) DO NOTHING
"""
UNLEARN = "DELETE FROM golden WHERE answer = ANY($1::uuid[]) OR question = ANY($1::uuid[])"
DELETE = "DELETE FROM packets WHERE corpus_id = $1 AND id = ANY($2::uuid[])"
FEWER = "UPDATE corpora SET chunks = greatest(chunks - $2, 0) WHERE id = $1"
CUT = "DELETE FROM window_turns WHERE agent = $1 AND sequence = ANY($2::int[])"
# A window of no model is rendered anew, opening and turns, when its agent next speaks (`agents.context`).
UNMAKE = "UPDATE windows SET fingerprint = '', opening = '{}', opening_text = '' WHERE agent = $1"
# A draft was made from the window as it was.
HOLD = "UPDATE flushes SET state = 'held', draft = '' WHERE agent = $1 AND state <> 'done'"

RECORDS: dict[str, tuple[str, ...]] = {
    "jobs": ("task", "answer"),
    "order_attempts": ("outcome", "why"),
    "plan_steps": ("outcome", "why"),
    "step_attempts": ("outcome",),
}
"""Tables that note what was asked and what came of it, and the columns with its words."""


def _blot(table: str, columns: Sequence[str]) -> str:
    """Puts $2 in the place of the text $1."""
    sets = ", ".join(f"{column} = replace({column}, $1, $2)" for column in columns)
    holds = " OR ".join(f"position($1 IN {column}) > 0" for column in columns)
    return f"UPDATE {table} SET {sets} WHERE {holds}"


def _holding(table: str, columns: Sequence[str]) -> str:
    """How many rows hold one of the texts $1."""
    holds = " OR ".join(f"position(x IN {column}) > 0" for column in columns)
    return f"SELECT count(*) FROM {table} WHERE EXISTS (SELECT FROM unnest($1::text[]) x WHERE {holds})"


# An order carries the memories nearest to it, which nobody wrote there on purpose.
UNQUOTE = """
UPDATE orders SET embedding_state = jsonb_set(embedding_state, '{nearest}', coalesce(
    (SELECT jsonb_agg(one) FROM jsonb_array_elements(embedding_state -> 'nearest') one
     WHERE one ->> 'id' <> ALL($1::text[])), '[]'))
WHERE EXISTS (SELECT FROM jsonb_array_elements(embedding_state -> 'nearest') one WHERE one ->> 'id' = ANY($1::text[]))
"""


def _touched(
    turns: Sequence[asyncpg.Record], openings: Sequence[asyncpg.Record], texts: Sequence[_Text]
) -> dict[str, tuple[list[int], bool]]:
    ids = {text.id for text in texts}
    # The fence writes `<data` with another mark, so that a text cannot end it.
    needles = [text.needle.replace("‹", "<") for text in texts if len(text.needle) >= TELLING]

    def holds(words: str, but: str = "") -> bool:
        plain, told = _plain(words).replace("‹", "<"), _plain(but).replace("‹", "<")
        return any(needle in plain and needle not in told for needle in needles)

    found = {str(row["agent"]): (list[int](), holds(row["opening_text"], row["told"])) for row in openings}
    for agent, (gone, _) in found.items():
        exchange: list[asyncpg.Record] = []
        # Half an exchange would make no sense to the model; what else was said in it stays in memory.
        for row in [*(turn for turn in turns if turn["agent"] == agent), None]:
            if row is None or row["role"] == "user":
                if any(one["packet"] in ids or holds(one["content"]) for one in exchange):
                    gone += [one["sequence"] for one in exchange]
                exchange = []
            if row is not None:
                exchange.append(row)
    return found


def _plain(text: str) -> str:
    return " ".join(text.split())


def _doomed(row: asyncpg.Record, quoted: bool) -> Doomed:
    words = _plain(row["prose"])
    shown = words if len(words) <= SHOWN_CHARACTERS else words[: SHOWN_CHARACTERS - 1] + "…"
    return Doomed(row["id"], row["no"], row["corpus_id"], row["kind"], row["time"], row["agent"], shown, quoted)

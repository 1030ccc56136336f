"""Recall: by words and by meaning at once, within what the agent may see."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.errors import InvalidInput, NotFound
from memory import ranking, recall, vectors
from memory.database import Database
from memory.embedder import Embedder, default_embedder
from memory.lexemes import count, of_query
from memory.memory import Memory
from memory.packets import Packet
from memory.ranking import K1, B
from memory.recall import Query, Recall
from memory.shapes import Weights
from memory.uuid7 import uuid7

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 21, 10, 2, tzinfo=UTC)
SAID = [
    "We decided to keep the schema in numbered SQL files.",
    "The cat sleeps on the warm windowsill all day.",
    "Postings hold integer lexemes without a dictionary.",
    "My sister's wedding is in Lisbon next June.",
    "The build broke because the grammar pack downloads at run time.",
]


def packet(prose: str, **changes: object) -> Packet:
    return replace(Packet(uuid7(), NOW, "director", "s", 0, "said", prose), **changes)  # type: ignore[arg-type]


class Lengths:
    """An embedder for tests of plumbing: texts of one length have one vector, and no other length's is near it."""

    def __init__(self, id: str, dimension: int) -> None:
        self.id = id
        self.dimension = dimension
        self.max_tokens = 256

    def embed(self, texts: Sequence[str], *, query: bool = False) -> NDArray[np.float32]:
        if "unembeddable" in texts:
            raise ValueError("no vector for this")
        rows = [np.random.default_rng(len(text)).standard_normal(self.dimension) for text in texts]
        return np.array([row / np.linalg.norm(row) for row in rows], np.float32)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return default_embedder()


@pytest.fixture
async def memory(database: Database, embedder: Embedder) -> AsyncIterator[Memory]:
    """Memory in which `SAID` was said and embedded."""
    async with Memory.open(database, embedder) as memory:
        await memory.packets.write([packet(prose, sequence=n) for n, prose in enumerate(SAID)])
        await memory.upkeep.settled()
        yield memory


async def prose(memory: Memory, text: str, **more: object) -> list[str]:
    return [hit.prose for hit in await memory.recall.search(Query(text, **more))]  # type: ignore[arg-type]


async def test_meaning_finds_what_shares_no_word(memory: Memory):
    assert (await prose(memory, "an animal taking a nap"))[0] == SAID[1]


async def test_words_find_what_was_said_a_moment_ago(memory: Memory):
    await memory.packets.write([packet("The zyzzyva is a beetle.")])
    assert (await prose(memory, "zyzzyva"))[0] == "The zyzzyva is a beetle."


async def test_a_hit_says_where_it_comes_from_and_why(memory: Memory):
    hit = (await memory.recall.search(Query("where is the schema kept")))[0]
    assert hit.prose == SAID[0]
    assert hit.source == f"{NOW.astimezone():%Y-%m-%d %H:%M} director"
    assert hit.semantic is not None
    assert 0 < hit.semantic < 1
    assert hit.keyword > 0
    assert (hit.kind, hit.corpus, hit.session, hit.sequence) == ("said", None, "s", 0)


async def test_the_best_comes_first_and_k_is_kept(memory: Memory):
    hits = await memory.recall.search(Query("the schema of the postings", k=3))
    assert len(hits) == 3
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


async def test_keyword_scores_are_those_of_the_formula(database: Database):
    texts = [f"{'soul ' * (n % 4)}{'memory ' * (n % 3)}{'filler ' * n}rest" for n in range(12)]
    async with Memory.open(database, None, distinct=False) as memory:
        await memory.packets.write([packet(text) for text in texts])
        hits = await memory.recall.search(Query("soul memory", k=50))
    counts = [count(text) for text in texts]
    mean = sum(c.length for c in counts) / len(counts)
    expected: dict[str, float] = {}
    for lexeme in of_query("soul memory"):
        having = [(text, c) for text, c in zip(texts, counts, strict=True) if lexeme in c.by_lexeme]
        idf = np.log(1 + (len(texts) - len(having) + 0.5) / (len(having) + 0.5))
        for text, c in having:
            tf = c.by_lexeme[lexeme]
            score = idf * tf * (K1 + 1) / (tf + K1 * (1 - B + B * c.length / mean))
            expected[text] = expected.get(text, 0.0) + score
    assert {hit.prose: pytest.approx(hit.keyword) for hit in hits} == expected


async def test_frequent_words_are_weighed_exactly_though_they_do_not_drive(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    texts = [f"common {'common ' * (n % 5)} {'rare' if n % 7 == 0 else 'other'} word{n}x" for n in range(40)]
    async with Memory.open(database, None) as memory:
        await memory.packets.write([packet(text) for text in texts])
        exact = await memory.recall.search(Query("common rare", k=6))
        monkeypatch.setattr(ranking, "DRIVING_POSTINGS", 10)
        ranking.statement.cache_clear()
        driven = await memory.recall.search(Query("common rare", k=6))
    ranking.statement.cache_clear()
    assert [(hit.id, pytest.approx(hit.keyword)) for hit in driven] == [(hit.id, hit.keyword) for hit in exact]


async def test_traffic_is_recalled_only_when_asked_for(memory: Memory):
    await memory.packets.write([packet("grep quokka", kind="call"), packet("quokka: 3 matches", kind="result")])
    assert "quokka" not in " ".join(await prose(memory, "quokka"))
    assert "quokka" not in " ".join(await prose(memory, "quokka", corpus="*"))
    assert await prose(memory, "quokka", kinds=("call",)) == ["grep quokka"]
    assert len(await prose(memory, "quokka", kinds=("call", "result"), corpus="*")) == 2


async def test_filters_hold_together(memory: Memory):
    later = NOW + timedelta(days=1)
    await memory.packets.write(
        [
            packet("schema of today", time=later, resonance=0.9),
            packet("schema note of today", time=later, kind="note", resonance=0.9),
            packet("schema of little worth", time=later, resonance=0.1),
        ]
    )
    found = await prose(memory, "schema", kinds=("said",), since=later, min_resonance=0.5)
    assert found == ["schema of today"]
    assert "schema of today" not in await prose(memory, "schema", until=later)


async def test_resonance_breaks_a_tie(memory: Memory):
    await memory.packets.write([packet("equal words 1", resonance=0.1), packet("equal words 2", resonance=0.9)])
    hits = await memory.recall.search(Query("equal words", k=2))
    assert [round(hit.resonance, 1) for hit in hits] == [0.9, 0.1]


async def test_a_token_budget_leaves_out_the_worst(memory: Memory):
    assert len(await prose(memory, "the schema", token_budget=30)) < len(SAID)
    assert len(await prose(memory, "the schema", token_budget=1)) == 1


async def test_what_is_in_view_is_no_hit_and_the_others_move_up(memory: Memory):
    every = [hit.id for hit in await memory.recall.search(Query(SAID[0], len(SAID)))]
    for known in range(len(SAID)):
        found = await memory.recall.search(Query(SAID[0], 2, without=frozenset(every[:known])))
        assert [hit.id for hit in found] == every[known : known + 2]


async def test_everything_and_a_named_corpus(database: Database, embedder: Embedder, tmp_path: Path):
    (tmp_path / "a.md").write_text("The narwhal lives in the Arctic.")
    async with Memory.open(database, embedder, [tmp_path]) as memory:
        await memory.packets.write([packet("We talked of the narwhal.")])
        await memory.corpora.add("animals", tmp_path)
        assert await prose(memory, "narwhal") == ["We talked of the narwhal."]
        assert await prose(memory, "narwhal", corpus="animals") == ["The narwhal lives in the Arctic."]
        assert len(await prose(memory, "narwhal", corpus="*")) == 2
        with pytest.raises(NotFound, match="Known are: animals"):
            await memory.recall.search(Query("narwhal", corpus="plants"))


async def test_without_an_embedder_words_alone_decide(database: Database):
    async with Memory.open(database, None) as memory:
        await memory.packets.write([packet(text) for text in SAID])
        hits = await memory.recall.search(Query("integer lexemes"))
        assert [hit.prose for hit in hits] == [SAID[2]]
        assert hits[0].semantic is None
        assert await prose(memory, "the of and") == []


async def test_an_empty_memory_answers_with_nothing(database: Database, embedder: Embedder):
    async with Memory.open(database, embedder) as memory:
        assert await prose(memory, "anything", corpus="*") == []


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (Query(""), "empty"),
        (Query(" \n"), "empty"),
        (Query("x", k=0), "1 to 100"),
        (Query("x", k=101), "1 to 100"),
        (Query("x", min_resonance=2), "between 0 and 1"),
        (Query("x", token_budget=0), "at least 1"),
        (Query("x", kinds=("gossip",)), "no kind"),  # type: ignore[arg-type]
        (Query("x", since=NOW, until=NOW), "Exchange"),
    ],
)
async def test_misuse_is_refused_with_its_remedy(database: Database, query: Query, message: str):
    async with Memory.open(database, None) as memory:
        with pytest.raises(InvalidInput, match=message):
            await memory.recall.search(query)


@pytest.mark.parametrize(
    "text", ["\x00", "'; DROP TABLE packets; --", "\ud800 lone", "🙂", "x" * 1_000_000, "%s $1 {}"]
)
async def test_any_text_may_be_asked(memory: Memory, text: str):
    await memory.recall.search(Query(text))
    assert await memory.packets.count() == len(SAID)


async def test_vectors_that_are_owed_at_a_crash_are_made_at_the_next_start(database: Database, embedder: Embedder):
    async with Memory.open(database, None) as memory:
        await memory.packets.write([packet(text) for text in SAID])
    async with Memory.open(database, embedder) as memory:
        await memory.upkeep.settled()
        assert await memory.packets.owed() == 0
        assert (await prose(memory, "an animal taking a nap"))[0] == SAID[1]


async def test_another_embedder_embeds_everything_anew(database: Database):
    async with Memory.open(database, Lengths("short", 8)) as memory:
        await memory.packets.write([packet("x" * n) for n in range(1, 5)])
        await memory.upkeep.settled()
    async with Memory.open(database, Lengths("long", 16)) as memory:
        await memory.upkeep.settled()
        hits = await memory.recall.search(Query("y" * 3, k=1))
        assert (hits[0].prose, hits[0].semantic) == ("xxx", pytest.approx(1, abs=1e-3))
        names = await database.fetch("SELECT name FROM embedders")
        assert [row["name"] for row in names] == ["long"]


async def test_one_text_that_cannot_be_embedded_holds_up_no_other(database: Database):
    async with Memory.open(database, Lengths("lengths", 8)) as memory:
        await memory.packets.write([packet("first"), packet("unembeddable"), packet("second")])
        await memory.upkeep.settled()
        assert await memory.packets.owed() == 0
        assert (await memory.recall.search(Query("third", k=1)))[0].prose == "first"
        assert "unembeddable" in await prose(memory, "unembeddable?")


@pytest.mark.parametrize("reach", [None, "*"])
async def test_a_large_corpus_answers_alike_with_and_without_its_index(database: Database, reach: str | None):
    random = np.random.default_rng(5)
    async with Memory.open(database, Lengths("lengths", 64), distinct=False) as memory:
        texts = ["x" * length for length in random.integers(1, 64, 600)]
        await memory.packets.write([packet(text, resonance=float(random.random())) for text in texts])
        await memory.upkeep.settled()
        exact = [hit.prose for hit in await memory.recall.search(Query("y" * 7, corpus=reach))]
        assert memory.upkeep.vectors is not None
        memory.upkeep.vectors = await vectors.keep_indexes(database, memory.upkeep.vectors, index_from=100)
        assert memory.upkeep.vectors.indexed == {0}
        assert memory.upkeep.vectors.whole
        indexed = [hit.prose for hit in await memory.recall.search(Query("y" * 7, corpus=reach))]
        assert indexed == exact == ["x" * 7] * len(exact)
        filtered = await memory.recall.search(Query("y" * 7, corpus=reach, min_resonance=0.9, k=3))
        assert len(filtered) == 3
        assert all(hit.resonance >= 0.9 for hit in filtered)


async def test_an_index_search_returns_as_many_candidates_as_were_asked_for(database: Database):
    async with Memory.open(database, Lengths("lengths", 64), distinct=False) as memory:
        await memory.packets.write([packet("x" * (n % 60 + 1)) for n in range(500)])
        await memory.upkeep.settled()
        assert memory.upkeep.vectors is not None
        memory.upkeep.vectors = await vectors.keep_indexes(database, memory.upkeep.vectors, index_from=100)
        assert len(await memory.recall.search(Query("y", k=100))) == 100


async def test_a_neighbour_of_what_was_found_comes_before_a_stranger(database: Database):
    """The answer often stands beside the words that were asked for."""
    turns = ["Where did you leave the kayak?", "Behind the shed, beside the old bicycles and the ladder.", "Thanks."]
    strangers = [packet(f"Behind the fence number {n}.", session=f"other {n}") for n in range(6)]
    async with Memory.open(database, None) as memory:
        await memory.packets.write([*strangers, *(packet(text, sequence=n) for n, text in enumerate(turns))])
        found = await prose(memory, "kayak behind", k=3)
        alone = Recall(database, None, memory.upkeep, Weights(neighbours=0, borrowed=0, session=0))
        without = [hit.prose for hit in await alone.search(Query("kayak behind", k=3))]
    assert found[:2] == [turns[0], turns[1]]
    assert turns[1] != without[1]


async def test_words_of_a_question_may_be_spread_over_neighbours(database: Database):
    """Who, where and what are seldom said in one breath."""
    turns = ["My sister came by on Sunday.", "She had sold the old boat at last, for want of time.", "To whom?"]
    stranger = "A boat."
    async with Memory.open(database, None) as memory:
        await memory.packets.write([packet(stranger, session="other")])
        await memory.packets.write([packet(text, sequence=n) for n, text in enumerate(turns)])
        hits = await memory.recall.search(Query("sister, boat"))
        alone = Recall(database, None, memory.upkeep, Weights(neighbours=0, borrowed=0, session=0))
        without = [hit.prose for hit in await alone.search(Query("sister, boat"))]
    assert [hit.prose for hit in hits] == [turns[0], turns[1], stranger]
    assert without[2] == turns[1]
    assert hits[1].why.borrowed > 0


async def test_what_stands_beside_the_best_is_looked_at_whatever_is_in_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ranking, "SEMANTIC_CANDIDATES", 1)
    ranking.statement.cache_clear()
    turns = ["Where is the kayak?", "No idea.", "Behind the shed.", "Thanks!", "Never mind."]
    async with Memory.open(database, Lengths("lengths", 8)) as memory:
        await memory.packets.write([packet(text, sequence=n) for n, text in enumerate(turns)])
        await memory.upkeep.settled()
        found = await prose(memory, "kayak")
        alone = Recall(database, Lengths("lengths", 8), memory.upkeep, Weights(neighbours=0, borrowed=0))
        without = [hit.prose for hit in await alone.search(Query("kayak"))]
    ranking.statement.cache_clear()
    assert set(turns[:3]) <= set(found)
    assert len(without) <= 2


async def test_who_is_named_in_a_question_is_heard_before_whoever_speaks_to_them(database: Database):
    told = ["Maria: Hello, I joined a gym.", "John: Maria, I joined a gym."]
    async with Memory.open(database, None) as memory:
        await memory.packets.write([packet(text, session=str(n)) for n, text in enumerate(told)])
        hits = await memory.recall.search(Query("What did Maria say about the gym?"))
        assert [hit.prose for hit in hits] == told
        assert [hit.why.speaker for hit in hits] == [1.4, 1]
        assert await prose(memory, "Which gym is John's?") == [told[1], told[0]]


async def test_a_day_that_a_question_names_comes_first(database: Database):
    days = {day: datetime(2026, 6, day, 12, tzinfo=UTC) for day in range(1, 29)}
    async with Memory.open(database, None) as memory:
        await memory.packets.write(
            [packet(f"The harbour was calm, note {day}.", time=time, session=str(day)) for day, time in days.items()]
        )
        hits = await memory.recall.search(Query("How was the harbour on 3 June, 2026?", k=3))
        assert hits[0].prose == "The harbour was calm, note 3."
        assert [hit.why.date for hit in hits] == [1.5, 1, 1]
        assert (await prose(memory, "Wie war harbour am 17. Juni 2026?"))[0] == "The harbour was calm, note 17."


async def test_a_named_day_is_found_among_more_than_there_are_candidates(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ranking, "KEYWORD_CANDIDATES", 3)
    ranking.statement.cache_clear()
    older = [packet(f"harbour harbour {n}", session=str(n)) for n in range(20)]
    asked = packet("at the harbour we spoke long of other things", time=datetime(2026, 6, 3, tzinfo=UTC), session="x")
    async with Memory.open(database, None) as memory:
        await memory.packets.write([*older, asked])
        found = [hit.id for hit in await memory.recall.search(Query("the harbour in June 2026", k=20))]
    ranking.statement.cache_clear()
    assert asked.id in found


async def test_a_score_is_the_sum_of_its_parts(memory: Memory):
    for hit in await memory.recall.search(Query("where is the schema kept", k=4)):
        why = hit.why
        most = 1 + 4 * Weights().neighbours + Weights().session + Weights().borrowed * (1 - Weights().semantic)
        total = (why.words + why.meaning + why.neighbours + why.borrowed + why.session) / most
        assert hit.score == pytest.approx(total * why.resonance * why.recency * why.speaker * why.date)


async def test_of_two_alike_the_newer_comes_first_unless_recency_is_off(database: Database):
    now = datetime.now(UTC)
    old, new = packet("the port is 1", time=now - timedelta(days=90)), packet("the port is 2", time=now)
    ahead = packet("the port is 3", time=now + timedelta(days=3))
    async with Memory.open(database, None) as memory:
        await memory.packets.write([old, new, ahead])
        hits = await memory.recall.search(Query("the port"))
        assert hits[-1].prose == old.prose
        # A clock that was set back makes what it wrote before no newer than now.
        assert hits[0].why.recency == pytest.approx(hits[1].why.recency, abs=1e-3)
        off = await Recall(database, None, memory.upkeep, Weights(recency=0)).search(Query("the port"))
        assert len({round(hit.score, 9) for hit in off}) == 1


async def test_one_text_said_many_times_takes_one_place(database: Database):
    async with Memory.open(database, None) as memory:
        await memory.packets.write([packet("Say hello to the port authority.", sequence=n) for n in range(150)])
        await memory.packets.write([packet(f"The port is {n}.", session="t", sequence=n) for n in range(3)])
        hits = await memory.recall.search(Query("port", k=4))
        assert sorted(hit.prose for hit in hits)[1:] == [f"The port is {n}." for n in range(3)]
        assert sum(hit.repeats for hit in hits) > 90
        every = await Recall(database, None, memory.upkeep, distinct=False).search(Query("hello", k=4))
        assert len(every) == 4


LONG = "We agreed that the backup of the archive runs every night after the last build and that {} looks at its report"


async def test_texts_that_differ_in_a_number_are_never_repeats(database: Database):
    async with Memory.open(database, None) as memory:
        await memory.packets.write([packet(LONG.format(f"{n} people") + " of the morning" * 9) for n in range(4)])
        assert len(await prose(memory, "backup report", k=9)) == 4


async def test_each_language_is_found_by_its_own_stems(database: Database):
    async with Memory.open(database, None) as memory:
        await memory.packets.write([packet("Wir haben beschlossen, dass die Häuser am See verkauft werden sollen.")])
        await memory.packets.write([packet("We have decided to paint the houses by the lake in a light colour.")])
        assert (await prose(memory, "Verkauf eines Hauses"))[0].startswith("Wir haben")
        assert (await prose(memory, "painting a house"))[0].startswith("We have")
        assert [row["name"] for row in await database.fetch("SELECT name FROM languages")] == ["german"]


async def test_a_small_german_memory_answers_german_questions(database: Database):
    said = [
        "Wir entschieden uns für Postgres als Speicher.",
        "Haustiere sind mit Zustimmung der Vermieterin erlaubt, wenn wir fragen.",
        "Wir flogen über Frankfurt und wohnten bei einer Tante.",
    ]
    async with Memory.open(database, None) as memory:
        await memory.packets.write([packet(text, session=str(n)) for n, text in enumerate(said)])
        assert (await prose(memory, "Was wurde entschieden?")) == [said[0]]
        assert (await prose(memory, "Dürfen wir einen Hund halten, oder ein anderes Haustier?"))[0] == said[1]
        assert (await prose(memory, "Bei wem haben wir gewohnt, bei welchen Tanten?"))[0] == said[2]


async def test_a_vector_goes_out_and_comes_back_as_a_question(memory: Memory):
    first = (await memory.recall.search(Query("an animal taking a nap", k=1, vectors=True)))[0]
    assert first.vector is not None
    again = await memory.recall.search(Query("", k=1, vector=first.vector))
    assert again[0].id == first.id
    assert again[0].semantic == pytest.approx(1, abs=1e-3)
    plain = await memory.recall.search(Query("an animal taking a nap", k=1))
    assert plain[0].vector is None


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda text: text.rpartition(":")[2], "this memory speaks"),
        (lambda text: "other:" + text.rpartition(":")[2], "this memory speaks"),
        (lambda text: text[:-9] + "§" * 9, "not base64"),
        (lambda text: text[:-8], "makes 384"),
        (lambda text: text.rpartition(":")[0] + ":" + base64.b64encode(b"\0\x7e" * 384).decode(), "no direction"),
        (lambda text: text.rpartition(":")[0] + ":" + base64.b64encode(bytes(768)).decode(), "no direction"),
    ],
)
async def test_a_vector_that_is_none_of_this_embedder_is_refused(
    memory: Memory, spoil: Callable[[str], str], says: str
):
    hit = (await memory.recall.search(Query("schema", k=1, vectors=True)))[0]
    assert hit.vector is not None
    with pytest.raises(InvalidInput, match=says):
        await memory.recall.search(Query("", vector=spoil(hit.vector)))


async def test_of_many_indexes_only_those_in_reach_are_named(database: Database, monkeypatch: pytest.MonkeyPatch):
    async with Memory.open(database, Lengths("lengths", 64), distinct=False) as memory:
        await memory.packets.write([packet("x" * (n % 60 + 1)) for n in range(300)])
        await memory.upkeep.settled()
        assert memory.upkeep.vectors is not None
        memory.upkeep.vectors = await vectors.keep_indexes(database, memory.upkeep.vectors, index_from=100)
        named = [hit.id for hit in await memory.recall.search(Query("y" * 7))]
        memory.upkeep.vectors = replace(memory.upkeep.vectors, indexed=frozenset({0, *range(16, 40)}))
        monkeypatch.setattr(recall, "FEW_INDEXES", 4)
        assert [hit.id for hit in await memory.recall.search(Query("y" * 7))] == named

"""The one statement that recall runs: candidates by words and by meaning, fused, filtered, joined to their prose.

Knows SQL and the mathematics of ranking. Does not know what a question is about, who asks, or how hits are shown
(`memory.recall`).

Shape of the statement:

    scope      the corpora that are looked at
    terms      each word of the question with its rarity; the rare ones *drive*, up to a budget of postings
    driven     BM25 over the driving words of every packet in which one stands
    keyword    the best of them
    semantic   the nearest packets by cosine: an exact scan, or an HNSW index where the corpus is large
    scored     both scores of every candidate, exact: words that do not drive are looked up in its trace
    best       the fusion of both, weighted by resonance, cut to k

LIMITs and candidates are literals: with a parameter there, a generic plan assumes a tenth of the table and scans it.

Sources: BM25 after Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework", with the idf of Lucene,
ln(1 + (N - n + 0.5) / (n + 0.5)), which is never negative; convex fusion of min-max scores after Bruch, Gai and
Ingber 2023, "An Analysis of Fusion Functions for Hybrid Retrieval", arXiv 2210.11934.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from memory.postings import LIVED, TRAFFIC

K1 = 0.9
B = 0.4
KEYWORD_CANDIDATES = 100
SEMANTIC_CANDIDATES = 100
EF_SEARCH = 160
"""Breadth of an HNSW search; it must be above the number of candidates, or fewer come back."""
DRIVING_POSTINGS = 15_000
"""Words, rarest first, drive the search until they have this many postings; the rarest always does. At 100,000 packets
this finds 99.6 % of what scoring every packet would, 6,000 find 95 % in 1 ms less (bench/store)."""
SEMANTIC_WEIGHT = 0.4
RESONANCE_WEIGHT = 0.2
"""A packet of resonance 1 gains half of this, one of resonance 0 loses half of it."""
FLAT = 0.1
"""Cosines that lie closer together than this are not stretched apart by the min-max scaling."""

Reach = Literal["worn", "named", "all"]
"""Lived memory and what the agent wears; one corpus by name; everything."""


@dataclass(frozen=True)
class Vectors:
    """Which vectors can be compared, and where an index holds them."""

    embedder: int
    """Key in the table `embedders`."""
    dimension: int
    indexed: frozenset[int] = frozenset()
    """Corpora with an HNSW index of their own."""
    whole: bool = False
    """Whether one HNSW index spans everything but the traffic."""

    def expression(self) -> str:
        """The indexed expression; a query must spell it alike."""
        return f"(near::halfvec({self.dimension}))"


@dataclass(frozen=True)
class Shape:
    """What decides the text of the statement; parameters are numbered in the order of `parameters`."""

    reach: Reach
    traffic: bool
    """Whether calls, results and events are looked at."""
    k: int
    filtered: bool
    vectors: Vectors | None
    """None: by words alone."""
    parameters: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        names = ["lexemes"]
        if self.vectors is not None:
            names.append("vector")
        if self.reach != "all":
            names.append("who")
        if self.filtered:
            names += ["kinds", "since", "until", "min_resonance"]
        object.__setattr__(self, "parameters", tuple(names))

    def slot(self, name: str) -> str:
        """`$n` of a parameter."""
        return f"${self.parameters.index(name) + 1}"


@cache
def statement(shape: Shape) -> str:
    """The SQL of one shape. Rows: id, prose and the other columns of the packet, then semantic, keyword and score."""
    parts = [f"scope AS MATERIALIZED ({_scope(shape)})", *_keyword_parts(shape)]
    if shape.vectors is not None:
        parts.append(f"semantic AS MATERIALIZED ({_semantic(shape, shape.vectors)})")
    parts += [_scored(shape), _best(shape)]
    return "WITH " + ",\n".join(parts) + _PACKETS


def _scope(shape: Shape) -> str:
    who = shape.slot("who") if shape.reach != "all" else ""
    scope = {
        "worn": f"SELECT {LIVED} AS corpus_id UNION ALL SELECT corpus_id FROM mounts WHERE agent = {who}::text",
        "named": f"SELECT id AS corpus_id FROM corpora WHERE name = {who}::text",
        "all": f"SELECT {LIVED} AS corpus_id UNION ALL SELECT id FROM corpora",
    }[shape.reach]
    return f"{scope} UNION ALL SELECT {TRAFFIC}" if shape.traffic else scope


_IN_SCOPE = "corpus_id = ANY(ARRAY(SELECT corpus_id FROM scope))"


def _keyword_parts(shape: Shape) -> list[str]:
    frequency = "((e >> 16) & 65535)::float8"
    source = f"""
    SELECT (e >> 32)::int AS no, sum({_bm25("t.idf", frequency, "(e & 65535)::float8", "extent.mean")}) AS score
    FROM terms t, extent,
         LATERAL (SELECT unnest(entries) AS e FROM postings WHERE lexeme = t.lexeme AND {_IN_SCOPE}) posting"""
    # Filters are looked up before the cut to the best few, or a narrow one would find nothing among them.
    if shape.filtered:
        source += f" JOIN traces ON traces.no = (e >> 32)::int AND {_filter(shape)}"
    return [
        f"""extent AS MATERIALIZED (
    SELECT greatest(sum(packets), 1)::float8 AS packets,
           greatest(sum(words)::float8 / greatest(sum(packets), 1), 1) AS mean
    FROM extents WHERE {_IN_SCOPE})""",
        f"""terms AS MATERIALIZED (
    SELECT lexeme, ln(1 + (greatest(packets - n, 0) + 0.5) / (n + 0.5)) AS idf,
           sum(n) OVER rarest_first <= {DRIVING_POSTINGS} OR row_number() OVER rarest_first = 1 AS driving
    FROM (SELECT lexeme, sum(p.n)::float8 AS n
          FROM (SELECT {shape.slot("lexemes")}::int[] AS lexemes OFFSET 0) asked, unnest(asked.lexemes) AS lexeme,
               LATERAL (SELECT n FROM postings WHERE postings.lexeme = lexeme.lexeme AND {_IN_SCOPE}) p
          GROUP BY lexeme) counted, extent
    WINDOW rarest_first AS (ORDER BY n, lexeme))""",
        f"""driven AS MATERIALIZED ({source}
    WHERE t.driving GROUP BY 1)""",
        f"""keyword AS MATERIALIZED (SELECT no FROM driven ORDER BY score DESC LIMIT {KEYWORD_CANDIDATES})""",
    ]


def _bm25(idf: str, frequency: str, length: str, mean: str) -> str:
    weight = f"{frequency} + {K1}::float8 * ({1 - B}::float8 + {B}::float8 * {length} / {mean})"
    return f"{idf} * {K1 + 1}::float8 * {frequency} / ({weight})"


def _semantic(shape: Shape, vectors: Vectors) -> str:
    vector = shape.slot("vector")
    source, condition = "nearness", ""
    if shape.filtered:
        source, condition = "nearness JOIN traces USING (no)", f" AND {_filter(shape)}"
    limit = f"ORDER BY distance LIMIT {SEMANTIC_CANDIDATES}"
    # set_config lasts for this transaction only, so that it works behind connection poolers, too. As a condition
    # without columns it is evaluated before the scan begins.
    gate = (
        f"(SELECT set_config('hnsw.ef_search', '{EF_SEARCH}', true) ||"
        " set_config('hnsw.iterative_scan', 'relaxed_order', true)) IS NOT NULL"
    )

    def by_index(where: str) -> str:
        return f"""(SELECT no, {vectors.expression()} <=> {vector} AS distance FROM {source}
    WHERE embedder = {vectors.embedder} AND nearness.{where}{condition} AND {gate}
    ORDER BY {vectors.expression()} <=> {vector} LIMIT {SEMANTIC_CANDIDATES})"""

    def exact(where: str) -> str:
        # OFFSET 0 keeps the planner from reaching for an index that spans other corpora.
        return f"""(SELECT no, distance FROM scope, LATERAL (
        SELECT no, near <=> {vector} AS distance FROM {source}
        WHERE nearness.corpus_id = scope.corpus_id AND embedder = {vectors.embedder}{condition} OFFSET 0) near
    WHERE {where} {limit})"""

    if shape.reach == "all" and vectors.whole:
        arms = [by_index(f"corpus_id <> {TRAFFIC}")]
        if shape.traffic:
            arms.append(exact(f"scope.corpus_id = {TRAFFIC}"))
    else:
        large = sorted(vectors.indexed)
        arms = [
            by_index(f"corpus_id = {corpus} AND EXISTS (SELECT FROM scope WHERE scope.corpus_id = {corpus})")
            for corpus in large
        ]
        arms.append(exact(f"scope.corpus_id NOT IN ({', '.join(map(str, large))})" if large else "true"))
    return f"SELECT no, distance FROM ({' UNION ALL '.join(arms)}) near {limit}"


def _scored(shape: Shape) -> str:
    looked_up = _bm25("term.idf", "found.frequency", "t.length", "extent.mean")
    # Often every word drives, and there is nothing to look up.
    words = f"""coalesce(driven.score, 0) + CASE WHEN EXISTS (SELECT FROM terms WHERE NOT driving) THEN coalesce((
        SELECT sum({looked_up})
        FROM terms term, LATERAL (SELECT t.counts[array_position(t.lexemes, term.lexeme)]::float8 AS frequency
                                  OFFSET 0) found
        WHERE NOT term.driving), 0) ELSE 0 END"""
    if shape.vectors is None:
        return f"""scored AS MATERIALIZED (
    SELECT t.corpus_id, t.id, t.resonance, NULL::float8 AS semantic, {words} AS keyword
    FROM keyword JOIN driven USING (no) JOIN traces t USING (no), extent)"""
    cosine = f"1 - coalesce(candidate.distance, near <=> {shape.slot('vector')})"
    return f"""scored AS MATERIALIZED (
    SELECT t.corpus_id, t.id, t.resonance, {cosine} AS semantic, {words} AS keyword
    FROM (SELECT no, semantic.distance FROM semantic FULL JOIN keyword USING (no)) candidate
    JOIN traces t USING (no) LEFT JOIN driven USING (no)
    LEFT JOIN nearness n
        ON candidate.distance IS NULL AND n.no = candidate.no AND n.embedder = {shape.vectors.embedder}, extent)"""


def _best(shape: Shape) -> str:
    words = "keyword / greatest(most_words, 1e-9)"
    if shape.vectors is None:
        fused, bounds = words, "SELECT max(keyword) AS most_words FROM scored"
    else:
        meaning = "greatest(semantic - farthest, 0) / (nearest - farthest)"
        # Where a vector is still owed, words speak for both.
        fused = f"{SEMANTIC_WEIGHT}::float8 * coalesce({meaning}, {words}) + {1 - SEMANTIC_WEIGHT}::float8 * {words}"
        bounds = f"""SELECT max(keyword) AS most_words, max(semantic) AS nearest,
               least((SELECT 1 - max(distance) FROM semantic), max(semantic) - {FLAT}::float8) AS farthest
        FROM scored"""
    return f"""best AS (
    SELECT corpus_id, id, semantic, keyword,
           ({fused}) * (1 + {RESONANCE_WEIGHT}::float8 * (resonance - 0.5)) AS score
    FROM scored, ({bounds}) bounds ORDER BY score DESC, id LIMIT {shape.k})"""


_PACKETS = """
SELECT p.id, p.prose, p.kind, c.name AS corpus, p.time, p.agent, p.session, p.sequence, p.origin, p.resonance,
       p.metadata::text AS metadata, best.score, best.semantic, best.keyword
FROM best JOIN packets p ON p.corpus_id = best.corpus_id AND p.id = best.id
LEFT JOIN corpora c ON c.id = best.corpus_id
ORDER BY best.score DESC, best.id
"""


def _filter(shape: Shape) -> str:
    kinds, since, until, least = (shape.slot(name) for name in ("kinds", "since", "until", "min_resonance"))
    return (
        f"traces.kind = ANY({kinds}::text[]) AND traces.time >= {since}::timestamptz"
        f" AND traces.time < {until}::timestamptz AND traces.resonance >= {least}::real"
    )

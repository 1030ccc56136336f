"""The one statement that recall runs: candidates by words and by meaning, fused, filtered, joined to their prose.

Knows SQL and the mathematics of ranking. Does not know what a question is about, who asks, or how hits are shown
(`memory.recall`).

Shape of the statement:

    scope      the corpora that are looked at
    terms      each word of the question with its rarity; the rare ones *drive*, up to a budget of postings
    driven     BM25 over the driving words of every packet in which one stands
    keyword    the best of them, and the best of a day that the question names
    around     what stands beside the very best of them, whatever words are in it
    semantic   the nearest packets by cosine: an exact scan, or an HNSW index where the corpus is large
    scored     both scores of every candidate, exact: words that do not drive are looked up in its trace
    fused      the fusion of both for each candidate by itself
    placed     with what stands beside it: the candidates next to it, the words of theirs that it lacks itself, and the
               best one of its session
    best       weighted by resonance, age, who speaks and on which day, cut to k

Which driving words stand in a packet is one bit each (`said`), so that what a neighbour has and a packet lacks is a
matter of bits: `share of a neighbour's words that are new` times the neighbour's BM25 stands for the sum over them.

LIMITs and candidates are literals: with a parameter there, a generic plan assumes a tenth of the table and scans it.

Sources: BM25 after Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework", with the idf of Lucene,
ln(1 + (N - n + 0.5) / (n + 0.5)), which is never negative; convex fusion of min-max scores after Bruch, Gai and
Ingber 2023, "An Analysis of Fusion Functions for Hybrid Retrieval", arXiv 2210.11934.
"""

from __future__ import annotations

from functools import lru_cache

from memory.languages import ENGLISH
from memory.postings import FIRST_CORPUS, LIVED, PRIVATE, TRAFFIC
from memory.repeats import SAMPLE
from memory.shapes import Shape, Vectors, Weights

K1 = 0.9
B = 0.4
KEYWORD_CANDIDATES = 100
SEMANTIC_CANDIDATES = 100
EF_SEARCH = 160
"""Breadth of an HNSW search; it must be above the number of candidates, or fewer come back."""
DRIVING_POSTINGS = 15_000
"""Words, rarest first, drive the search until they have this many postings; the rarest always does. At 100,000 packets
this finds 98 % (one mounted corpus: 99 %) of what scoring every packet would (bench/store)."""
DATED_CANDIDATES = 50
EXTENDED = 10
"""Of so many candidates, the best by words, the neighbours become candidates too."""
BITS = 63
"""Words of a question that are told apart in `said`; with more of them some share a bit."""
BESIDE = 2
"""Neighbours this many places before and behind a packet, in its session or file, speak for it."""
FLAT = 0.1
"""Cosines that lie closer together than this are not stretched apart by the min-max scaling."""


@lru_cache(maxsize=256)
def statement(shape: Shape) -> str:
    """The SQL of one shape. Rows: id, prose and other columns of the packet, then the score and what it is made of."""
    parts = [f"scope AS MATERIALIZED ({_scope(shape)})", *_keyword_parts(shape), *_around(shape)]
    parts.append(_speakers(shape))
    if shape.vectors is not None:
        parts.append(f"semantic AS MATERIALIZED ({_semantic(shape, shape.vectors)})")
    parts += [_scored(shape), _fused(shape), _placed(shape.weights), _best(shape)]
    return "WITH " + ",\n".join(parts) + _packets(shape)


def _scope(shape: Shape) -> str:
    who = shape.slot("who") if shape.reach != "all" else ""
    scope = {
        "worn": f"SELECT {LIVED} AS corpus_id UNION ALL SELECT corpus_id FROM mounts WHERE agent = {who}::text",
        "named": f"SELECT id AS corpus_id FROM corpora WHERE name = {who}::text",
        "all": f"SELECT {LIVED} AS corpus_id UNION ALL SELECT id FROM corpora",
    }[shape.reach]
    if shape.private and shape.reach != "named":
        scope += f" UNION ALL SELECT {PRIVATE}"
    return f"{scope} UNION ALL SELECT {TRAFFIC}" if shape.traffic else scope


_IN_SCOPE = "corpus_id = ANY(ARRAY(SELECT corpus_id FROM scope))"


def _keyword_parts(shape: Shape) -> list[str]:
    frequency = "((e >> 16) & 65535)::float8"
    source = f"""
    SELECT (e >> 32)::int AS no, bit_or(t.bit) AS said,
           sum({_bm25("t.idf", frequency, "(e & 65535)::float8", "extent.mean")}) AS score
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
           sum(n) OVER rarest_first <= {DRIVING_POSTINGS} OR row_number() OVER rarest_first = 1 AS driving,
           1::bigint << (row_number() OVER rarest_first % {BITS})::int AS bit
    FROM (SELECT lexeme, sum(p.n)::float8 AS n
          FROM (SELECT ARRAY(SELECT DISTINCT lexeme
                             FROM unnest({shape.slot("lexemes")}::int[], {shape.slot("languages")}::text[])
                                  AS word (lexeme, language)
                             WHERE language = '{ENGLISH}' OR language IN (SELECT name FROM languages)) AS lexemes
                OFFSET 0) asked, unnest(asked.lexemes) AS lexeme,
               LATERAL (SELECT n FROM postings WHERE postings.lexeme = lexeme.lexeme AND {_IN_SCOPE}) p
          GROUP BY lexeme) counted, extent
    WINDOW rarest_first AS (ORDER BY n, lexeme))""",
        f"""driven AS MATERIALIZED ({source}
    WHERE t.driving GROUP BY 1)""",
        f"""keyword AS MATERIALIZED ({_keyword(shape)})""",
    ]


def _keyword(shape: Shape) -> str:
    best = f"(SELECT no, score FROM driven ORDER BY score DESC LIMIT {KEYWORD_CANDIDATES})"
    if not shape.dated:
        return best
    return f"""{best} UNION (
    SELECT no, score FROM driven JOIN traces t USING (no)
    WHERE {_on_a_named_day(shape)} ORDER BY score DESC LIMIT {DATED_CANDIDATES})"""


def _on_a_named_day(shape: Shape) -> str:
    """Of a text that was indexed the time says nothing about what is in it."""
    return f"""t.corpus_id < {FIRST_CORPUS} AND EXISTS (
        SELECT FROM unnest({shape.slot("first_days")}::timestamptz[], {shape.slot("past_days")}::timestamptz[])
                    AS span (first, past)
        WHERE t.time >= first AND t.time < past)"""


def _speakers(shape: Shape) -> str:
    return f"""speakers AS MATERIALIZED (
    SELECT lexeme FROM unnest({shape.slot("speakers")}::int[]) AS lexeme
    WHERE EXISTS (SELECT FROM postings WHERE postings.lexeme = lexeme.lexeme AND {_IN_SCOPE}))"""


def _around(shape: Shape) -> list[str]:
    if not _extended(shape):
        return []
    condition = f" AND {_filter(shape)}" if shape.filtered else ""
    return [
        f"""around AS MATERIALIZED (
    SELECT traces.no FROM (SELECT no FROM keyword ORDER BY score DESC LIMIT {EXTENDED}) best
    JOIN traces t USING (no)
    JOIN traces ON traces.corpus_id = t.corpus_id AND traces.session = t.session
        AND traces.sequence BETWEEN t.sequence - {BESIDE} AND t.sequence + {BESIDE}{condition})"""
    ]


def _extended(shape: Shape) -> bool:
    """Who asks by words alone gets what holds one of them, and nothing else."""
    return shape.vectors is not None and shape.weights.neighbours + shape.weights.borrowed > 0


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
        # The index spans the private ones, too; this is what keeps them out.
        home = "" if shape.private else f" AND nearness.corpus_id <> {PRIVATE}"
        arms = [by_index(f"corpus_id <> {TRAFFIC}{home}")]
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
    # Labels of speakers that nobody has cost a look into the index each, and no packet is looked at.
    speaks = """EXISTS (
        SELECT FROM speakers WHERE speakers.lexeme = ANY(t.lexemes))"""
    columns = f"""t.no, t.corpus_id, t.id, t.session, t.sequence, t.resonance, t.time,
           coalesce(driven.said, 0) AS said,
           {speaks} AS speaks, {_on_a_named_day(shape) if shape.dated else "false"} AS dated"""
    if shape.vectors is None:
        return f"""scored AS MATERIALIZED (
    SELECT {columns}, NULL::float8 AS semantic, {words} AS keyword
    FROM (SELECT no FROM keyword) candidate JOIN driven USING (no) JOIN traces t USING (no), extent)"""
    by_words = "SELECT no FROM keyword UNION SELECT no FROM around" if _extended(shape) else "SELECT no FROM keyword"
    # The vectors of those whose distance is known are not looked up again: no index is searched for NULL.
    cosine = f"1 - coalesce(candidate.distance, near <=> {shape.slot('vector')})"
    return f"""scored AS MATERIALIZED (
    SELECT {columns}, {cosine} AS semantic, {words} AS keyword
    FROM (SELECT no, semantic.distance FROM semantic FULL JOIN ({by_words}) by_words USING (no)) candidate
    JOIN traces t USING (no) LEFT JOIN driven USING (no)
    LEFT JOIN nearness n
        ON n.no = CASE WHEN distance IS NULL THEN candidate.no END AND n.embedder = {shape.vectors.embedder}, extent)"""


def _fused(shape: Shape) -> str:
    words = "keyword / greatest(most_words, 1e-9)"
    if shape.vectors is None:
        meaning, bounds = words, "SELECT max(keyword) AS most_words FROM scored"
    else:
        # Where a vector is still owed, words speak for both.
        meaning = f"coalesce(greatest(semantic - farthest, 0) / (nearest - farthest), {words})"
        bounds = f"""SELECT max(keyword) AS most_words, max(semantic) AS nearest,
               least((SELECT 1 - max(distance) FROM semantic), max(semantic) - {FLAT}::float8) AS farthest
        FROM scored"""
    share = shape.weights.semantic
    return f"""fused AS (
    SELECT *, {share}::float8 * by_meaning AS meaning, {1 - share}::float8 * by_words AS words,
           {share}::float8 * by_meaning + {1 - share}::float8 * by_words AS own
    FROM (SELECT scored.*, {meaning} AS by_meaning, {words} AS by_words FROM scored, ({bounds}) bounds) scaled)"""


def _placed(weights: Weights) -> str:
    # A neighbour that is no candidate itself has next to no score, so that the candidates are enough to look at.
    reached, new, seen = list[str](), list[str](), "said"
    for place, neighbour in enumerate(("lag({}, 1)", "lead({}, 1)", "lag({}, 2)", "lead({}, 2)")):
        sequence, said, words = (f"{neighbour.format(column)} OVER beside" for column in ("sequence", "said", "words"))
        reached.append(
            f"CASE WHEN abs(sequence - {sequence}) <= {BESIDE} THEN {said} ELSE 0 END AS said{place},"
            f" {words} AS words{place}"
        )
        share = f"bit_count((said{place} & ~({seen}))::bit(64)) / bit_count(said{place}::bit(64))::float8"
        new.append(f"CASE WHEN said{place} = 0 THEN 0 ELSE words{place} * {share} END")
        seen += f" | said{place}"
    return f"""placed AS (
    SELECT *, {weights.borrowed}::float8 * ({" + ".join(new)}) AS borrowed
    FROM (SELECT *, {weights.neighbours}::float8 * (sum(own) OVER beside - own) AS neighbours,
                 {weights.session}::float8 * max(own) OVER together AS together, {", ".join(reached)}
          FROM fused
          WINDOW together AS (PARTITION BY corpus_id, session COLLATE "C"),
                 beside AS (together ORDER BY sequence RANGE BETWEEN {BESIDE} PRECEDING AND {BESIDE} FOLLOWING)
         ) surrounded)"""


def _best(shape: Shape) -> str:
    weights = shape.weights
    # About the most that can come together, so that scores stay within 0..1 before the factors.
    most = 1 + weights.neighbours * 2 * BESIDE + weights.session + weights.borrowed * (1 - weights.semantic)
    # Of a text that was indexed the time says nothing about its age. A clock that was set back makes nothing newer
    # than now.
    age = "greatest(extract(epoch FROM now() - time)::float8, 0) / 86400"
    recency = f"""CASE WHEN corpus_id < {FIRST_CORPUS}
        THEN 1 + {weights.recency}::float8 * (exp(-ln(2) * least({age} / {weights.half_life_days}::float8, 99)) - 0.5)
        ELSE 1 END"""
    return f"""best AS (
    SELECT *, (own + neighbours + borrowed + together) / {most}::float8 * loved * fresh * named * timely AS score
    FROM (SELECT *, 1 + {weights.resonance}::float8 * (resonance - 0.5) AS loved, {recency} AS fresh,
                 1 + {weights.speaker}::float8 * speaks::int AS named, 1 + {weights.date}::float8 * dated::int AS timely
          FROM placed) aged
    ORDER BY score DESC, id LIMIT {shape.k})"""


def _packets(shape: Shape) -> str:
    embedding = "NULL"
    if shape.embeddings and shape.vectors is not None:
        embedding = f"CASE WHEN p.embedder = {shape.vectors.embedder} THEN p.embedding END"
    return f"""
SELECT p.id, p.prose, p.kind, c.name AS corpus, p.time, p.agent, p.session, p.sequence, p.origin, p.resonance,
       p.metadata::text AS metadata, best.score, best.semantic, best.keyword, best.meaning, best.words,
       best.neighbours, best.borrowed, best.together, best.loved, best.fresh, best.named, best.timely,
       t.lexemes[:{SAMPLE}] AS sample, {embedding} AS embedding
FROM best JOIN packets p ON p.corpus_id = best.corpus_id AND p.id = best.id JOIN traces t ON t.no = best.no
LEFT JOIN corpora c ON c.id = best.corpus_id
ORDER BY best.score DESC, best.id
"""


def _filter(shape: Shape) -> str:
    kinds, since, until, least = (shape.slot(name) for name in ("kinds", "since", "until", "min_resonance"))
    return (
        f"traces.kind = ANY({kinds}::text[]) AND traces.time >= {since}::timestamptz"
        f" AND traces.time < {until}::timestamptz AND traces.resonance >= {least}::real"
    )

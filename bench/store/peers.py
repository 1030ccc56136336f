"""The peers: ChromaDB, LanceDB, and sqlite-vec with FTS5, each used as its own documentation advises.

Each holds the rows twice, as Soul in effect does: every corpus in a place of its own, and everything together. Where a
peer has no hybrid search (Chroma), it is asked by meaning alone and the results say so.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bench.store.rows import Question, Rows
from memory.languages import ENGLISH
from memory.stopwords import STOP_WORDS

K = 10
BATCH = 5000


class Peer(Protocol):
    """A store that can be asked; `hybrid` says whether it searches by words as well."""

    name: str
    hybrid: bool

    def load(self, rows: Rows) -> None: ...

    def ask(self, question: Question, *, whole: bool, words: bool) -> list[int]: ...


class Chroma:
    """One collection for each corpus and one for everything, cosine, HNSW defaults."""

    name = "ChromaDB"
    hybrid = False

    def __init__(self, home: Path) -> None:
        import chromadb
        from chromadb.config import Settings

        self._client = chromadb.PersistentClient(str(home), Settings(anonymized_telemetry=False))
        self._collections: dict[int, Any] = {}

    def load(self, rows: Rows) -> None:
        for corpus in [-1, *np.unique(rows.corpus).tolist()]:
            members = np.arange(len(rows.texts)) if corpus == -1 else np.flatnonzero(rows.corpus == corpus)
            collection = self._client.create_collection(
                f"corpus{corpus}", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
            )
            for start in range(0, len(members), BATCH):
                part = members[start : start + BATCH]
                collection.add(
                    ids=[str(row) for row in part],
                    embeddings=rows.vectors[part],
                    documents=[rows.texts[row] for row in part],
                )
            self._collections[corpus] = collection

    def ask(self, question: Question, *, whole: bool, words: bool) -> list[int]:
        collection = self._collections[-1 if whole else question.corpus]
        found = collection.query(query_embeddings=[question.vector], n_results=K, include=["documents", "distances"])
        return [int(id) for id in found["ids"][0]]


class Lance:
    """A table for each corpus and one for everything, full-text index on each, IVF_HNSW_SQ where it is large."""

    name = "LanceDB"
    hybrid = True

    def __init__(self, home: Path) -> None:
        import lancedb

        self._database = lancedb.connect(str(home))
        self._tables: dict[int, Any] = {}

    def load(self, rows: Rows) -> None:
        import pyarrow as pa

        for corpus in [-1, *np.unique(rows.corpus).tolist()]:
            members = np.arange(len(rows.texts)) if corpus == -1 else np.flatnonzero(rows.corpus == corpus)
            vectors = pa.FixedSizeListArray.from_arrays(rows.vectors[members].ravel(), rows.vectors.shape[1])
            texts = [rows.texts[row] for row in members]
            table = self._database.create_table(
                f"corpus{corpus}", pa.table({"row": members, "vector": vectors, "text": texts})
            )
            table.create_fts_index("text")
            if len(members) >= BATCH:
                table.create_index(metric="cosine", index_type="IVF_HNSW_SQ")
            self._tables[corpus] = table

    def ask(self, question: Question, *, whole: bool, words: bool) -> list[int]:
        table = self._tables[-1 if whole else question.corpus]
        if words:
            query = (
                table.search(query_type="hybrid").vector(question.vector).text(question.text).distance_type("cosine")
            )
        else:
            query = table.search(question.vector).distance_type("cosine")
        return query.limit(K).to_arrow()["row"].to_pylist()


class SqliteVec:
    """vec0 with the corpus as partition key, an FTS5 table for each corpus and one for everything, fused by rank.

    The statement is the hybrid search of sqlite-vec's documentation. Stop words are left out of the question, since
    FTS5 has none and would score every row for them.
    """

    name = "sqlite-vec + FTS5"
    hybrid = True

    FUSED = """
    WITH near AS (
        SELECT rowid AS row, row_number() OVER (ORDER BY distance) AS rank
        FROM vectors WHERE embedding MATCH :vector AND k = 100 {partition}
    ), words AS (
        SELECT rowid AS row, row_number() OVER (ORDER BY rank) AS rank
        FROM {table} WHERE text MATCH :words ORDER BY rank LIMIT 100
    ), fused AS (
        SELECT coalesce(near.row, words.row) AS row,
               coalesce(1.0 / (60 + near.rank), 0) + coalesce(1.0 / (60 + words.rank), 0) AS score
        FROM near FULL OUTER JOIN words ON near.row = words.row
    )
    SELECT fused.row, texts.text FROM fused JOIN texts ON texts.rowid = fused.row ORDER BY score DESC LIMIT 10
    """
    NEAR = """
    SELECT near.rowid, texts.text
    FROM (SELECT rowid, distance FROM vectors WHERE embedding MATCH :vector AND k = 10 {partition}) near
    JOIN texts ON texts.rowid = near.rowid ORDER BY distance
    """

    def __init__(self, home: Path) -> None:
        # The sqlite3 module of many Pythons cannot load extensions; apsw brings an SQLite of its own that can.
        import apsw
        import sqlite_vec

        home.mkdir(parents=True)
        self._connection = apsw.Connection(str(home / "store.db"))
        self._connection.enable_load_extension(True)
        self._connection.load_extension(sqlite_vec.loadable_path())
        self._connection.execute("PRAGMA journal_mode = wal")

    def load(self, rows: Rows) -> None:
        run = self._connection.execute
        dimension = rows.vectors.shape[1]
        run(
            f"CREATE VIRTUAL TABLE vectors USING vec0(corpus integer partition key,"
            f" embedding float[{dimension}] distance_metric=cosine)"
        )
        run("CREATE TABLE texts (rowid INTEGER PRIMARY KEY, text TEXT)")
        everything = range(len(rows.texts))
        with self._connection:
            insert = "INSERT INTO vectors (rowid, corpus, embedding) VALUES (?, ?, ?)"
            data = ((n, int(rows.corpus[n]), rows.vectors[n].tobytes()) for n in everything)
            self._connection.executemany(insert, data)
            self._connection.executemany("INSERT INTO texts VALUES (?, ?)", ((n, rows.texts[n]) for n in everything))
            for corpus in [-1, *np.unique(rows.corpus).tolist()]:
                table = self._table(corpus)
                run(f"CREATE VIRTUAL TABLE {table} USING fts5(text, content='texts', tokenize='porter unicode61')")
                members = everything if corpus == -1 else np.flatnonzero(rows.corpus == corpus).tolist()
                data = ((n, rows.texts[n]) for n in members)
                self._connection.executemany(f"INSERT INTO {table} (rowid, text) VALUES (?, ?)", data)

    def ask(self, question: Question, *, whole: bool, words: bool) -> list[int]:
        statement = (self.FUSED if words else self.NEAR).format(
            partition="" if whole else "AND corpus = :corpus", table=self._table(-1 if whole else question.corpus)
        )
        values: dict[str, object] = {"vector": question.vector.tobytes()}
        if not whole:
            values["corpus"] = question.corpus
        if words:
            telling = [word for word in question.text.split() if word not in STOP_WORDS[ENGLISH]]
            values["words"] = " OR ".join(f'"{word}"' for word in telling)
        return [row[0] for row in self._connection.execute(statement, values)]

    @staticmethod
    def _table(corpus: int) -> str:
        return "words_all" if corpus == -1 else f"words_{corpus}"


def open_peers(home: Path, names: list[str]) -> list[Peer]:
    """The peers asked for that are installed."""
    peers: list[Peer] = []
    for kind in (Chroma, Lance, SqliteVec):
        if kind.__name__.lower() in names:
            with contextlib.suppress(ImportError):
                peers.append(kind(home / kind.__name__.lower()))
    return peers

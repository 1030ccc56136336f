"""The peers: the same embedder in Chroma, BM25 alone by bm25s, and the plain reciprocal-rank fusion of both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from memory.embedder import Embedder
from memory.uuid7 import uuid7

RRF = 60
"""The constant of Cormack, Clarke and Büttcher 2009, "Reciprocal Rank Fusion outperforms Condorcet"."""
BATCH = 5000


class Peers:
    """All three over one set of texts."""

    def __init__(self, texts: Sequence[str], embedder: Embedder) -> None:
        import bm25s
        import chromadb
        import Stemmer
        from chromadb.config import Settings

        self._embedder = embedder
        self._count = len(texts)
        self._stemmer: Any = Stemmer.Stemmer("english")
        self._bm25 = bm25s.BM25()
        self._bm25.index(self._tokens(list(texts)), show_progress=False)
        client = chromadb.EphemeralClient(Settings(anonymized_telemetry=False))
        self._chroma = client.create_collection(
            str(uuid7()), configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
        )
        vectors = embedder.embed(list(texts))
        for start in range(0, len(texts), BATCH):
            part = range(start, min(start + BATCH, len(texts)))
            self._chroma.add(ids=[str(row) for row in part], embeddings=vectors[part.start : part.stop])

    def _tokens(self, texts: list[str]) -> Any:
        import bm25s

        return bm25s.tokenize(texts, stopwords="en", stemmer=self._stemmer, show_progress=False)

    def ask(self, question: str, k: int) -> dict[str, list[int]]:
        """By peer: the rows of the k best texts, best first."""
        k = min(k, self._count)
        vector = self._embedder.embed([question], query=True)
        near = self._chroma.query(query_embeddings=vector, n_results=k, include=["distances"])
        meaning = [int(row) for row in near["ids"][0]]
        rows, scores = self._bm25.retrieve(self._tokens([question]), k=k, show_progress=False)
        words = [int(row) for row, score in zip(rows[0], scores[0], strict=True) if score > 0]
        fused: dict[int, float] = {}
        for ranked in (meaning, words):
            for place, row in enumerate(ranked, 1):
                fused[row] = fused.get(row, 0.0) + 1 / (RRF + place)
        both = [row for row, _ in sorted(fused.items(), key=lambda pair: (-pair[1], pair[0]))][:k]
        return {"Chroma, same embedder": meaning, "BM25 (bm25s)": words, "reciprocal-rank fusion": both}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean and the standard error of it, over questions."""
    array = np.array(values)
    return {"mean": round(float(array.mean()), 4), "error": round(float(array.std() / max(len(array), 1) ** 0.5), 4)}

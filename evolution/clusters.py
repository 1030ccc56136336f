"""What the golden log is about: clusters of its vectors, terms that tell them apart, and a picture.

HDBSCAN (Campello et al. 2013) over unit vectors, so that Euclidean distance orders as the cosine does; the picture is
their projection on the two main axes. Needs scikit-learn and matplotlib (the extra `evolution`). Knows no database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.errors import InvalidInput, MissingExtra
from evolution.tensors import Floats

LEAST = 3
"""Members of the smallest cluster."""
TERMS = 6


@dataclass(frozen=True)
class Cluster:
    """One theme. `members` are places in what was given; `number` -1 is what belongs to none."""

    number: int
    members: tuple[int, ...]
    terms: tuple[str, ...]


def cluster(texts: Sequence[str], vectors: Floats, picture: Path | None = None) -> tuple[Cluster, ...]:
    """Clusters of texts by their vectors, (count, dimension), the largest first, what belongs to none last.

    Raises:
        MissingExtra: scikit-learn is not installed.
        InvalidInput: there are fewer than two smallest clusters' worth of texts.
    """
    try:
        from sklearn.cluster import HDBSCAN
        from sklearn.decomposition import PCA
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError:
        raise MissingExtra("Clusters need scikit-learn.", "pip install 'soul-mcp[evolution]'") from None
    if len(texts) < 2 * LEAST:
        raise InvalidInput(f"{len(texts)} exchanges are too few for clusters.", f"{2 * LEAST} are the least.")
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    labels = HDBSCAN(min_cluster_size=LEAST, copy=True).fit_predict(unit)  # pyright: ignore[reportArgumentType]
    by_label = {int(label): tuple(int(at) for at in np.flatnonzero(labels == label)) for label in set(labels)}
    order = sorted(by_label, key=lambda label: (label < 0, -len(by_label[label]), by_label[label]))
    # A term tells a cluster apart when it is frequent in it and rare in the others: each cluster is one document.
    words = TfidfVectorizer(stop_words="english", token_pattern=r"(?u)\b[^\W\d]\w{2,}\b")
    try:
        weights = words.fit_transform([" ".join(texts[at] for at in by_label[label]) for label in order]).toarray()
        names = words.get_feature_names_out()
    except ValueError:  # no words at all
        weights, names = np.zeros((len(order), 0)), np.array([])
    found = tuple(
        Cluster(
            -1 if label < 0 else number,
            by_label[label],
            tuple(str(names[at]) for at in np.argsort(-row, kind="stable")[:TERMS] if row[at] > 0),
        )
        for number, (label, row) in enumerate(zip(order, weights, strict=True), 1)
    )
    if picture is not None:
        _draw(PCA(n_components=2, random_state=0).fit_transform(unit), found, picture)
    return found


def _draw(points: Floats, found: Sequence[Cluster], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 7))
    for one in found:
        members = points[list(one.members)]
        label = "none" if one.number < 0 else f"{one.number}: {', '.join(one.terms[:3])}"
        axes.scatter(members[:, 0], members[:, 1], s=18, label=label, color="0.8" if one.number < 0 else None)
    axes.legend(fontsize=8)
    axes.set_title("The golden log, by meaning")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)

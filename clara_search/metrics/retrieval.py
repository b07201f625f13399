"""Scores of retrieval and classification: recall@k, mAP@k, accuracy, each with its interval and its chance level."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from clara_search.metrics.intervals import FloatArray, Interval, bootstrap_intervals

MAP_CUTOFF = 10
TIE = 1e-6
"""A wrong item whose cosine is within this of a right one's counts as ranked before it: a tie counts against you."""

_BLOCK = 256  # queries a block: memory stays at 256 x gallery, whatever the number of queries


@dataclass(frozen=True)
class RetrievalScores:
    """Scores over all queries against the full gallery; chance levels are exact expectations of a random order."""

    n_queries: int
    n_gallery: int
    recall: dict[int, float]
    chance_recall: dict[int, float]
    recall_interval: dict[int, Interval]
    map10: float
    chance_map10: float
    map10_interval: Interval
    median_rank: float

    def as_dict(self) -> dict[str, Any]:
        """Return the scores as JSON takes them (the keys of `recall` become strings)."""
        return {
            name: {str(key): entry for key, entry in value.items()} if isinstance(value, dict) else value
            for name, value in asdict(self).items()
        }


def score_retrieval(
    queries: FloatArray,
    gallery: FloatArray,
    query_groups: npt.ArrayLike,
    gallery_groups: npt.ArrayLike,
    ks: Sequence[int] = (1, 5, 10),
    bootstrap: int = 1000,
    seed: int = 0,
) -> RetrievalScores:
    """Score unit vectors `queries`, shape (q, d), against `gallery`, shape (n, d).

    The gallery items whose label in `gallery_groups` (n,) equals the query's in `query_groups` (q,) are its positives;
    a query without any raises ValueError. Intervals are 95 % percentile intervals over `bootstrap` resamplings of the
    queries (0: the interval is the score itself).
    """
    ranks = positive_ranks(queries, gallery, query_groups, gallery_groups)
    return _scores_of_ranks(ranks, len(gallery), ks, bootstrap, seed)


def self_retrieval(
    vectors: FloatArray,
    groups: npt.ArrayLike,
    owners: npt.ArrayLike | None = None,
    ks: Sequence[int] = (1, 5, 10),
    bootstrap: int = 1000,
    seed: int = 0,
) -> RetrievalScores:
    """Score unit vectors (n, d) against each other: what is of a vector's group in `groups` (n,) is its positive.

    A vector is compared with those of other `owners` (n,), such as speakers; by default each is its own. Those without
    a positive there ask nothing. Galleries differ by their owner: `n_gallery` is the mean, chance that of its size.
    Raises ValueError where none has a positive.
    """
    labels = np.asarray(groups)
    owned = np.arange(len(labels)) if owners is None else np.asarray(owners)
    ranks, sizes = [], []
    for at in range(len(labels)):
        others = owned != owned[at]
        if (labels[others] == labels[at]).any():
            ranks += positive_ranks(vectors[at : at + 1], vectors[others], labels[at : at + 1], labels[others])
            sizes.append(int(others.sum()))
    if not ranks:
        raise ValueError("no vector has another one of its group")
    return _scores_of_ranks(ranks, round(float(np.mean(sizes))), ks, bootstrap, seed)


def _scores_of_ranks(
    ranks: Sequence[npt.NDArray[np.int64]], n_gallery: int, ks: Sequence[int], bootstrap: int, seed: int
) -> RetrievalScores:
    n_positives = np.array([len(ranks_of_query) for ranks_of_query in ranks])
    per_query = np.stack([*(hits_at_k(ranks, k) for k in ks), average_precision_at_k(ranks, MAP_CUTOFF)], axis=1)
    means = per_query.mean(axis=0)
    intervals = bootstrap_intervals(per_query, bootstrap, seed)
    return RetrievalScores(
        n_queries=len(ranks),
        n_gallery=n_gallery,
        recall={k: float(mean) for k, mean in zip(ks, means, strict=False)},
        chance_recall={k: _mean_over_counts(n_positives, partial(chance_recall, n_gallery=n_gallery, k=k)) for k in ks},
        recall_interval=dict(zip(ks, intervals, strict=False)),
        map10=float(means[-1]),
        chance_map10=_mean_over_counts(n_positives, partial(chance_map, n_gallery=n_gallery, k=MAP_CUTOFF)),
        map10_interval=intervals[-1],
        median_rank=float(np.median([ranks_of_query[0] for ranks_of_query in ranks])),
    )


def positive_ranks(
    queries: FloatArray, gallery: FloatArray, query_groups: npt.ArrayLike, gallery_groups: npt.ArrayLike
) -> list[npt.NDArray[np.int64]]:
    """Return for each query the ranks (from 1, ascending) of its positives in the gallery, ties counted against them.

    Raises ValueError where shapes disagree, there are no queries, a vector is not finite, or a query has no positive.
    """
    query_labels, gallery_labels = np.asarray(query_groups), np.asarray(gallery_groups)
    if len(queries) != len(query_labels) or len(gallery) != len(gallery_labels):
        raise ValueError("need one group label a vector")
    if not len(queries):
        raise ValueError("no queries to rank")
    if not (np.isfinite(queries).all() and np.isfinite(gallery).all()):
        raise ValueError("cannot rank vectors that are not finite")
    ranks = []
    for start in range(0, len(queries), _BLOCK):
        similarities = queries[start : start + _BLOCK] @ gallery.T
        for row, label in zip(similarities, query_labels[start : start + _BLOCK], strict=True):
            is_positive = gallery_labels == label
            if not is_positive.any():
                raise ValueError(f"no item of the gallery is a positive of group {label!r}")
            positives = np.sort(row[is_positive])[::-1]
            negatives = np.sort(row[~is_positive])
            before = len(negatives) - np.searchsorted(negatives, positives - row.dtype.type(TIE), side="left")
            ranks.append((np.arange(1, len(positives) + 1) + before).astype(np.int64))
    return ranks


def hits_at_k(ranks: Sequence[npt.NDArray[np.int64]], k: int) -> npt.NDArray[np.float64]:
    """Return 1 for each query with a positive among its first `k`, else 0: their mean is recall@k."""
    return np.array([float(ranks_of_query[0] <= k) for ranks_of_query in ranks])


def average_precision_at_k(ranks: Sequence[npt.NDArray[np.int64]], k: int) -> npt.NDArray[np.float64]:
    """Return each query's average precision: the sum of i / rank of its i-th positive within `k`, over min(m, k)."""
    precisions = []
    for ranks_of_query in ranks:
        m = len(ranks_of_query)
        found = ranks_of_query <= k
        precisions.append(float((np.arange(1, m + 1) / ranks_of_query)[found].sum()) / min(m, k))
    return np.array(precisions)


def chance_recall(n_positives: int, n_gallery: int, k: int) -> float:
    """Return the probability that a random order puts one of `n_positives` of `n_gallery` items among its first `k`."""
    if k >= n_gallery:
        return 1.0
    return 1.0 - math.comb(n_gallery - n_positives, k) / math.comb(n_gallery, k)


def chance_map(n_positives: int, n_gallery: int, k: int) -> float:
    """Return the expected average precision within `k` of a random order of `n_gallery` items."""
    others = (n_positives - 1) / max(n_gallery - 1, 1)
    expected = sum((1 + (rank - 1) * others) / rank for rank in range(1, min(k, n_gallery) + 1))
    return n_positives / n_gallery * expected / min(n_positives, k)


def _mean_over_counts(n_positives: npt.NDArray[np.int64], chance: Callable[[int], float]) -> float:
    counts, queries = np.unique(n_positives, return_counts=True)
    levels = [chance(int(count)) for count in counts]
    return float(np.average(levels, weights=queries))

"""Retrieval metrics, recall@k and mAP@k, with bootstrap intervals and exact chance levels."""

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
TIE_TOLERANCE = 1e-6
"""A negative whose cosine is at most this far below a positive's counts as ranked before it: ties count as errors."""

_BLOCK_QUERIES = 256  # memory stays at 256 x gallery, whatever the number of queries


@dataclass(frozen=True)
class RetrievalScores:
    """Scores over all queries against the full gallery.

    Attributes:
        n_queries: Number of queries.
        n_gallery: Number of gallery items.
        recall: recall@k by k: the share of queries with a positive among their first k items.
        chance_recall: Its expectation for a random order.
        recall_interval: Its 95 % bootstrap interval.
        map10: mAP@10, the mean of `average_precision_at_k` over the queries.
        chance_map10: Its expectation for a random order.
        map10_interval: Its 95 % bootstrap interval.
        median_rank: Median over the queries of the rank of the first positive, from 1.
    """

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
        """Return the scores in a form that JSON can hold: the keys of `recall` become strings."""
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
    num_resamples: int = 1000,
    seed: int = 0,
) -> RetrievalScores:
    """Score the ranking of a gallery by its cosine with each query.

    Args:
        queries: Unit vectors, shape (q, d).
        gallery: Unit vectors, shape (n, d).
        query_groups: Labels of the queries, shape (q,).
        gallery_groups: Labels of the gallery items, shape (n,); those with the query's label are its positives.
        ks: Cut-offs of recall.
        num_resamples: Bootstrap resamples of the queries; 0 for intervals without width.
        seed: Seed of the resamples.

    Raises:
        ValueError: Shapes disagree, there are no queries, a vector is not finite, or a query has no positive.
    """
    ranks = positive_ranks(queries, gallery, query_groups, gallery_groups)
    return _scores_of_ranks(ranks, len(gallery), ks, num_resamples, seed)


def score_relevant(
    queries: FloatArray,
    gallery: FloatArray,
    relevant: Sequence[Sequence[int]],
    ks: Sequence[int] = (1, 5, 10),
    num_resamples: int = 1000,
    seed: int = 0,
) -> RetrievalScores:
    """Score the ranking of a gallery by its cosine with each query, where relevance is any relation between the two.

    A clip with five captions is relevant to five queries, and a caption that several clips have to none but these.

    Args:
        queries: Unit vectors, shape (q, d).
        gallery: Unit vectors, shape (n, d).
        relevant: For each query the indices of its positives in the gallery.
        ks: Cut-offs of recall.
        num_resamples: Bootstrap resamples of the queries; 0 for intervals without width.
        seed: Seed of the resamples.

    Raises:
        ValueError: Shapes disagree, there are no queries, a vector is not finite, or a query has no positive.
    """
    return _scores_of_ranks(relevant_ranks(queries, gallery, relevant), len(gallery), ks, num_resamples, seed)


def self_retrieval(
    vectors: FloatArray,
    groups: npt.ArrayLike,
    owners: npt.ArrayLike | None = None,
    ks: Sequence[int] = (1, 5, 10),
    num_resamples: int = 1000,
    seed: int = 0,
) -> RetrievalScores:
    """Score the ranking of vectors by each other: each is a query whose gallery are the vectors of other owners.

    Vectors without a positive in their gallery are no queries. Galleries differ by the owner: `n_gallery` is the mean
    of their sizes, and chance levels are for a gallery of that size.

    Args:
        vectors: Unit vectors, shape (n, d).
        groups: Labels, shape (n,); vectors with the query's label are its positives.
        owners: Owners such as speakers, shape (n,); by default each vector has an owner of its own.
        ks: Cut-offs of recall.
        num_resamples: Bootstrap resamples of the queries; 0 for intervals without width.
        seed: Seed of the resamples.

    Raises:
        ValueError: No vector has a positive.
    """
    labels = np.asarray(groups)
    owner_of = np.arange(len(labels)) if owners is None else np.asarray(owners)
    ranks, sizes = [], []
    for index in range(len(labels)):
        is_other, query = owner_of != owner_of[index], slice(index, index + 1)
        if (labels[is_other] == labels[index]).any():
            ranks += positive_ranks(vectors[query], vectors[is_other], labels[query], labels[is_other])
            sizes.append(int(is_other.sum()))
    if not ranks:
        raise ValueError("no vector has another vector of its group")
    return _scores_of_ranks(ranks, round(float(np.mean(sizes))), ks, num_resamples, seed)


def _scores_of_ranks(
    ranks: Sequence[npt.NDArray[np.int64]], n_gallery: int, ks: Sequence[int], num_resamples: int, seed: int
) -> RetrievalScores:
    n_positives = np.array([len(ranks_of_query) for ranks_of_query in ranks])
    per_query = np.stack([*(hits_at_k(ranks, k) for k in ks), average_precision_at_k(ranks, MAP_CUTOFF)], axis=1)
    means = per_query.mean(axis=0)
    intervals = bootstrap_intervals(per_query, num_resamples, seed)
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
    """Return for each query the ranks of its positives, ascending from 1.

    A tie counts as an error: see `TIE_TOLERANCE`. Arguments are those of `score_retrieval`, and so are the errors.
    """
    query_labels, gallery_labels = np.asarray(query_groups), np.asarray(gallery_groups)
    if len(queries) != len(query_labels) or len(gallery) != len(gallery_labels):
        raise ValueError("groups have another length than vectors")
    members = {label: np.flatnonzero(gallery_labels == label) for label in np.unique(query_labels).tolist()}
    for label, indices in members.items():
        if not len(indices):
            raise ValueError(f"no item of the gallery is a positive of group {label!r}")
    return relevant_ranks(queries, gallery, [members[label] for label in query_labels.tolist()])


def relevant_ranks(
    queries: FloatArray, gallery: FloatArray, relevant: Sequence[Sequence[int] | npt.NDArray[np.int64]]
) -> list[npt.NDArray[np.int64]]:
    """Return for each query the ranks of its positives, as `positive_ranks` does.

    Arguments are those of `score_relevant`, and so are the errors.
    """
    if len(queries) != len(relevant):
        raise ValueError("relevance has another length than queries")
    if not len(queries):
        raise ValueError("no queries to rank")
    if not (np.isfinite(queries).all() and np.isfinite(gallery).all()):
        raise ValueError("cannot rank vectors that are not finite")
    ranks = []
    for start in range(0, len(queries), _BLOCK_QUERIES):
        similarities = queries[start : start + _BLOCK_QUERIES] @ gallery.T
        for row, indices in zip(similarities, relevant[start : start + _BLOCK_QUERIES], strict=True):
            is_positive = np.zeros(len(gallery), dtype=bool)
            is_positive[np.asarray(indices, dtype=np.int64)] = True
            if not is_positive.any():
                raise ValueError("a query has no positive in the gallery")
            positives = np.sort(row[is_positive])[::-1]
            negatives = np.sort(row[~is_positive])
            before = len(negatives) - np.searchsorted(negatives, positives - row.dtype.type(TIE_TOLERANCE), side="left")
            ranks.append((np.arange(1, len(positives) + 1) + before).astype(np.int64))
    return ranks


def hits_at_k(ranks: Sequence[npt.NDArray[np.int64]], k: int) -> npt.NDArray[np.float64]:
    """Return 1 for each query with a positive among its first `k` items, else 0, shape (q,): their mean is recall@k."""
    return np.array([float(ranks_of_query[0] <= k) for ranks_of_query in ranks])


def average_precision_at_k(ranks: Sequence[npt.NDArray[np.int64]], k: int) -> npt.NDArray[np.float64]:
    """Return the average precision within `k` of each query, shape (q,).

    With m positives at ranks r_1 < r_2 < ..., AP@k = (sum of i / r_i over r_i <= k) / min(m, k). Its mean with k = 10
    is the main metric of language-based audio retrieval in the DCASE challenge.

    Args:
        ranks: Ranks of the positives of each query, from `positive_ranks`.
        k: Cut-off.
    """
    precisions = []
    for ranks_of_query in ranks:
        m = len(ranks_of_query)
        within = ranks_of_query <= k
        precisions.append(float((np.arange(1, m + 1) / ranks_of_query)[within].sum()) / min(m, k))
    return np.array(precisions)


def chance_recall(n_positives: int, n_gallery: int, k: int) -> float:
    """Return the expected recall@k of a random order: 1 - C(n - m, k) / C(n, k) with m positives among n items."""
    if k >= n_gallery:
        return 1.0
    return 1.0 - math.comb(n_gallery - n_positives, k) / math.comb(n_gallery, k)


def chance_map(n_positives: int, n_gallery: int, k: int) -> float:
    """Return the expected AP@k of a random order of n items with m positives.

    A positive is at rank r with probability m / n, and has (r - 1)(m - 1) / (n - 1) others before it in expectation:
    E = (m / n) * sum of (1 + (r - 1)(m - 1) / (n - 1)) / r over r <= k, divided by min(m, k).
    """
    others = (n_positives - 1) / max(n_gallery - 1, 1)
    expected = sum((1 + (rank - 1) * others) / rank for rank in range(1, min(k, n_gallery) + 1))
    return n_positives / n_gallery * expected / min(n_positives, k)


def _mean_over_counts(n_positives: npt.NDArray[np.int64], chance: Callable[[int], float]) -> float:
    counts, queries = np.unique(n_positives, return_counts=True)
    levels = [chance(int(count)) for count in counts]
    return float(np.average(levels, weights=queries))

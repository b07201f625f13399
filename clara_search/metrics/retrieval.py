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
from clara_search.metrics.ranking import Ranks, positive_ranks, relevant_ranks

MAP_CUTOFFS = (10, 16)
"""Of the mean average precision: 10 is what most papers report, 16 the DCASE challenge of 2025."""

RULES = (
    "recall@k: the share of queries with a relevant item among the first k, of several relevant items the best-ranked; "
    "mAP@k: the mean of (sum of i / r_i over the relevant items at ranks r_1 < r_2 < ... <= k) / min(m, k) with m "
    "relevant items; ties count against the relevant item; the gallery is whole"
)
"""The rules that scores follow, to be written beside them."""


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
        map16: mAP@16.
        chance_map16: Its expectation for a random order.
        map16_interval: Its 95 % bootstrap interval.
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
    map16: float
    chance_map16: float
    map16_interval: Interval
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
    return score_ranks(ranks, len(gallery), ks, num_resamples, seed)


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
    return score_ranks(relevant_ranks(queries, gallery, relevant), len(gallery), ks, num_resamples, seed)


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
    ranks: Ranks = []
    sizes: list[int] = []
    for index in range(len(labels)):
        is_other, query = owner_of != owner_of[index], slice(index, index + 1)
        if (labels[is_other] == labels[index]).any():
            ranks += positive_ranks(vectors[query], vectors[is_other], labels[query], labels[is_other])
            sizes.append(int(is_other.sum()))
    if not ranks:
        raise ValueError("no vector has another vector of its group")
    return score_ranks(ranks, round(float(np.mean(sizes))), ks, num_resamples, seed)


def score_ranks(
    ranks: Ranks, n_gallery: int, ks: Sequence[int] = (1, 5, 10), num_resamples: int = 1000, seed: int = 0
) -> RetrievalScores:
    """Score rankings by the ranks of the positives of each query.

    Args:
        ranks: From `relevant_ranks` or `positive_ranks`.
        n_gallery: Number of gallery items.
        ks: Cut-offs of recall.
        num_resamples: Bootstrap resamples of the queries; 0 for intervals without width.
        seed: Seed of the resamples.
    """
    n_positives = np.array([len(ranks_of_query) for ranks_of_query in ranks])
    columns = [*(hits_at_k(ranks, k) for k in ks), *(average_precision_at_k(ranks, k) for k in MAP_CUTOFFS)]
    per_query = np.stack(columns, axis=1)
    means = per_query.mean(axis=0)
    intervals = bootstrap_intervals(per_query, num_resamples, seed)
    chance_maps = [_mean_over_counts(n_positives, partial(chance_map, n_gallery=n_gallery, k=k)) for k in MAP_CUTOFFS]
    return RetrievalScores(
        n_queries=len(ranks),
        n_gallery=n_gallery,
        recall={k: float(mean) for k, mean in zip(ks, means, strict=False)},
        chance_recall={k: _mean_over_counts(n_positives, partial(chance_recall, n_gallery=n_gallery, k=k)) for k in ks},
        recall_interval=dict(zip(ks, intervals, strict=False)),
        map10=float(means[-2]),
        chance_map10=chance_maps[0],
        map10_interval=intervals[-2],
        map16=float(means[-1]),
        chance_map16=chance_maps[1],
        map16_interval=intervals[-1],
        median_rank=float(np.median(first_ranks(ranks))),
    )


def first_ranks(ranks: Ranks) -> npt.NDArray[np.int64]:
    """Return the rank of the best-ranked positive of each query, shape (q,)."""
    return np.fromiter((ranks_of_query[0] for ranks_of_query in ranks), np.int64, len(ranks))


def hits_at_k(ranks: Ranks, k: int) -> npt.NDArray[np.float64]:
    """Return 1 for each query with a positive among its first `k` items, else 0, shape (q,): their mean is recall@k."""
    return (first_ranks(ranks) <= k).astype(np.float64)


def average_precision_at_k(ranks: Ranks, k: int) -> npt.NDArray[np.float64]:
    """Return the average precision within `k` of each query, shape (q,).

    With m positives at ranks r_1 < r_2 < ..., AP@k = (sum of i / r_i over r_i <= k) / min(m, k). Its mean with k = 10
    is the main metric of language-based audio retrieval in the DCASE challenges until 2024, with k = 16 and all clips
    that a caption fits in that of 2025. Of a clip with five captions it is the mAP@10 that papers report from audio to
    text, whose divisor is 5.

    Args:
        ranks: Ranks of the positives of each query, from `positive_ranks` or `relevant_ranks`.
        k: Cut-off.
    """
    sizes = np.array([len(ranks_of_query) for ranks_of_query in ranks])
    flat = np.concatenate(ranks)
    starts = np.cumsum(sizes) - sizes
    places = np.arange(1, len(flat) + 1) - np.repeat(starts, sizes)
    sums = np.add.reduceat(np.where(flat <= k, places / flat, 0.0), starts)
    precisions: npt.NDArray[np.float64] = sums / np.minimum(sizes, k)
    return precisions


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

"""Comparison of two models by their scores on the same queries: a paired bootstrap, and a paired permutation test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clara_search.metrics.intervals import Interval, bootstrap_intervals


@dataclass(frozen=True)
class PairedDifference:
    """How much better the second of two models is.

    Attributes:
        n: Number of queries that both answered.
        difference: Mean score of the second less that of the first.
        interval: Its 95 % bootstrap interval over queries.
        p_value: Of the two-sided permutation test: how often a difference of at least this size comes about where each
            query's two scores are swapped at random.
    """

    n: int
    difference: float
    interval: Interval
    p_value: float


def paired_difference(
    first: npt.ArrayLike, second: npt.ArrayLike, num_resamples: int = 10_000, seed: int = 0
) -> PairedDifference:
    """Compare two models by their scores on the same queries.

    Args:
        first: Scores of the first, shape (queries,).
        second: Scores of the second on the same queries in the same order.
        num_resamples: Bootstrap resamples, and permutations.
        seed: Seed of both.

    Raises:
        ValueError: There are no queries, or not as many of one as of the other.
    """
    scores = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if scores[0].shape != scores[1].shape or not scores[0].size:
        raise ValueError(f"{scores[0].size} and {scores[1].size} scores: expected as many, and at least one")
    differences = scores[1] - scores[0]
    (interval,) = bootstrap_intervals(differences[:, None], num_resamples, seed)
    sizes, counts = np.unique(np.abs(differences), return_counts=True)
    signs = 2 * np.random.default_rng(seed).binomial(counts, 0.5, size=(num_resamples, len(sizes))) - counts
    is_extreme = np.abs(signs @ sizes) >= abs(differences.sum()) - 1e-9
    p_value = (1 + int(is_extreme.sum())) / (1 + num_resamples)
    return PairedDifference(len(differences), float(differences.mean()), interval, p_value)

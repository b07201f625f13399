"""Metrics of moment retrieval: which span of a recording answers a query, judged by intersection over union."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clara_search.metrics.intervals import Interval, bootstrap_intervals

Span = tuple[float, float]
"""Start and end in seconds."""

MAP_THRESHOLDS = tuple(step / 100 for step in range(50, 100, 5))
"""Of the mean average precision: 0.5, 0.55, ... 0.95."""


@dataclass(frozen=True)
class MomentScores:
    """Scores over all queries, each about one recording.

    Attributes:
        n_queries: Number of queries.
        r1: By a threshold: the share of queries whose first moment has at least that intersection over union with a
            true one.
        r1_interval: Its 95 % bootstrap interval.
        map: Mean over queries and `MAP_THRESHOLDS` of `average_precision`.
        map_interval: Its 95 % bootstrap interval.
    """

    n_queries: int
    r1: dict[float, float]
    r1_interval: dict[float, Interval]
    map: float
    map_interval: Interval

    def as_dict(self) -> dict[str, Any]:
        """Return the scores in a form that JSON can hold: the keys of `r1` become strings."""
        return {
            name: {str(key): entry for key, entry in value.items()} if isinstance(value, dict) else value
            for name, value in asdict(self).items()
        }


def score_moments(
    predicted: Sequence[Sequence[Span]],
    true: Sequence[Sequence[Span]],
    thresholds: Sequence[float] = (0.5, 0.7),
    num_resamples: int = 1000,
    seed: int = 0,
) -> MomentScores:
    """Score the moments that were found for queries.

    Args:
        predicted: For each query the moments, best first; none counts as wrong.
        true: For each query its true moments, at least one.
        thresholds: Of R1.
        num_resamples: Bootstrap resamples of the queries; 0 for intervals without width.
        seed: Seed of the resamples.

    Raises:
        ValueError: There are no queries, a query has no true moment, or there are not as many of one as of the other.
    """
    if len(predicted) != len(true) or not true:
        raise ValueError(f"{len(predicted)} answers to {len(true)} queries: expected as many, and at least one")
    if not all(true):
        raise ValueError("a query has no true moment")
    firsts = [
        _best_overlap(moments[0], spans) if moments else 0.0 for moments, spans in zip(predicted, true, strict=True)
    ]
    precisions = [
        np.mean([average_precision(moments, spans, threshold) for threshold in MAP_THRESHOLDS])
        for moments, spans in zip(predicted, true, strict=True)
    ]
    columns = [*(np.array(firsts) >= threshold for threshold in thresholds), np.array(precisions)]
    per_query: npt.NDArray[np.float64] = np.stack(columns, axis=1).astype(np.float64)
    means, intervals = per_query.mean(axis=0).tolist(), bootstrap_intervals(per_query, num_resamples, seed)
    return MomentScores(
        len(true),
        dict(zip(thresholds, means, strict=False)),
        dict(zip(thresholds, intervals, strict=False)),
        means[-1],
        intervals[-1],
    )


def intersection_over_union(first: Span, second: Span) -> float:
    """Return the length of what two spans share, as a share of what they cover together."""
    shared = max(min(first[1], second[1]) - max(first[0], second[0]), 0.0)
    covered = (first[1] - first[0]) + (second[1] - second[0]) - shared
    return shared / covered if covered > 0 else 0.0


def average_precision(predicted: Sequence[Span], true: Sequence[Span], threshold: float) -> float:
    """Return the average precision of the moments of one query, as in ActivityNet's and QVHighlights' evaluation.

    A moment is right if it has at least `threshold` intersection over union with a true one that no moment before it
    was right by; of several the one that it overlaps most. Precision is interpolated: at each recall the highest one
    that is reached at this recall or a higher one.

    Args:
        predicted: Moments, best first.
        true: True moments, at least one.
        threshold: Of the intersection over union.
    """
    free = set(range(len(true)))
    right = np.zeros(len(predicted))
    for number, moment in enumerate(predicted):
        overlaps = {other: intersection_over_union(moment, true[other]) for other in free}
        best = max(overlaps, key=lambda other: overlaps[other], default=None)
        if best is not None and overlaps[best] >= threshold:
            free.remove(best)
            right[number] = 1.0
    if not right.any():
        return 0.0
    precision = right.cumsum() / np.arange(1, len(right) + 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    return float((highest * right).sum() / len(true))


def _best_overlap(moment: Span, spans: Sequence[Span]) -> float:
    return max(intersection_over_union(moment, span) for span in spans)

"""Accuracy with its Wilson interval and chance level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from clara_search.metrics.intervals import Interval, wilson_interval


@dataclass(frozen=True)
class Accuracy:
    """Share of right answers with its 95 % Wilson interval; chance is one over the number of classes."""

    n: int
    n_classes: int
    accuracy: float
    interval: Interval
    chance: float

    def as_dict(self) -> dict[str, Any]:
        """Return the scores as JSON takes them."""
        return asdict(self)


def accuracy(predicted: Sequence[str], expected: Sequence[str], n_classes: int) -> Accuracy:
    """Return the share of `predicted` that equals `expected`, one of `n_classes` labels each.

    Raises ValueError where there are none, or not as many of one as of the other.
    """
    if not expected:
        raise ValueError("no answers to score")
    right = sum(a == b for a, b in zip(predicted, expected, strict=True))
    n = len(expected)
    return Accuracy(n, n_classes, right / n, wilson_interval(right, n), 1 / n_classes)

"""Accuracy with its Wilson interval and chance level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from clara_search.metrics.intervals import Interval, wilson_interval


@dataclass(frozen=True)
class Accuracy:
    """Accuracy over `n` answers.

    Attributes:
        n: Number of answers.
        n_classes: Number of classes that each answer is chosen from.
        accuracy: Share of right answers, from 0 to 1.
        interval: Its 95 % Wilson interval.
        chance: Accuracy of a uniform guess, 1 / n_classes.
    """

    n: int
    n_classes: int
    accuracy: float
    interval: Interval
    chance: float

    def as_dict(self) -> dict[str, Any]:
        """Return the scores in a form that JSON can hold."""
        return asdict(self)


def accuracy(predicted: Sequence[str], expected: Sequence[str], n_classes: int) -> Accuracy:
    """Return the share of predictions that are right.

    Args:
        predicted: Predicted labels.
        expected: True labels, as many.
        n_classes: Number of classes.

    Raises:
        ValueError: There are no labels, or not as many of one as of the other.
    """
    if not expected:
        raise ValueError("no labels to score")
    num_right = sum(prediction == label for prediction, label in zip(predicted, expected, strict=True))
    n = len(expected)
    return Accuracy(n, n_classes, num_right / n, wilson_interval(num_right, n), 1 / n_classes)

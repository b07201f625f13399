"""Classification metrics with bootstrap intervals, and the scores of two guesses: the majority class and chance."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clara_search.metrics.intervals import Interval

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

NUM_RESAMPLES = 1000


@dataclass(frozen=True)
class Score:
    """A score and its 95 % percentile interval over bootstrap resamples of the items."""

    value: float
    interval: Interval

    def __str__(self) -> str:
        """Return the score and its interval, such as "0.412 [0.380, 0.443]"."""
        return f"{self.value:.3f} [{self.interval[0]:.3f}, {self.interval[1]:.3f}]"


@dataclass(frozen=True)
class ClassScores:
    """Scores of `n` classified items.

    Attributes:
        n: Number of items.
        scores: Scores by metric.
        majority: Scores by metric of always predicting the most frequent class.
        chance: Expected scores by metric of guessing uniformly.
    """

    n: int
    scores: dict[str, Score]
    majority: dict[str, float]
    chance: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return the scores in a form that JSON can hold."""
        return asdict(self)


SINGLE_LABEL_METRICS = ("accuracy", "uar", "weighted_f1", "macro_f1")
"""Metrics of a single label per item.

- accuracy: share of items with the right label.
- uar: unweighted average recall, the mean over classes of recall (INTERSPEECH paralinguistics challenges).
- weighted_f1: mean of F1 over classes, weighted by their size (as scikit-learn's `f1_score(average="weighted")`).
- macro_f1: mean of F1 over classes (`average="macro"`); F1 = 2 TP / (2 TP + FP + FN).
"""

MULTI_LABEL_METRICS = ("map", "macro_f1")
"""Metrics of several labels per item.

- map: mean over labels of average precision (as AudioSet and FSD50K are scored).
- macro_f1: mean over labels of F1, with the labels whose probability is above 0.5.
"""


def score_single_label(
    expected: Labels,
    predicted: Labels,
    n_classes: int,
    majority: int,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> ClassScores:
    """Score predicted classes by the metrics in `SINGLE_LABEL_METRICS`.

    Averages leave out classes without a value: recall needs a true item of the class, F1 a true or predicted one.

    Args:
        expected: True class numbers, shape (n,).
        predicted: Predicted class numbers, shape (n,).
        n_classes: Number of classes.
        majority: Most frequent class of the training data.
        num_resamples: Bootstrap resamples of the items; 0 for intervals without width.
        seed: Seed of the resamples.

    Raises:
        ValueError: There are no items, or shapes disagree.
    """
    if len(expected) != len(predicted) or not len(expected):
        raise ValueError(f"{len(predicted)} predictions for {len(expected)} items: expected as many, and at least one")
    cells, counts = np.unique(np.stack([expected, predicted], axis=1), axis=0, return_counts=True)
    resamples = np.random.default_rng(seed).multinomial(len(expected), counts / len(expected), size=num_resamples)
    all_counts = np.concatenate([counts[None], resamples]).astype(np.float64)
    values = _cell_metrics(cells, all_counts, n_classes)
    constant = single_label_metrics(expected, np.full_like(expected, majority), n_classes)
    return ClassScores(
        len(expected),
        {name: _with_interval(values[name]) for name in SINGLE_LABEL_METRICS},
        {name: constant[name] for name in SINGLE_LABEL_METRICS},
        _chance_scores(np.bincount(expected, minlength=n_classes), n_classes),
    )


def single_label_metrics(expected: Labels, predicted: Labels, n_classes: int) -> dict[str, float]:
    """Return the metrics in `SINGLE_LABEL_METRICS` of class numbers `predicted` (n,) against `expected` (n,)."""
    cells, counts = np.unique(np.stack([expected, predicted], axis=1), axis=0, return_counts=True)
    return {
        name: float(value[0])
        for name, value in _cell_metrics(cells, counts[None].astype(np.float64), n_classes).items()
    }


def _cell_metrics(cells: Labels, counts: Floats, n_classes: int) -> dict[str, Floats]:
    """Return each metric, shape (b,), of `b` confusion matrices: `counts` (b, k) in their `cells` (k, 2)."""
    expected = counts @ np.eye(n_classes)[cells[:, 0]]
    predicted = counts @ np.eye(n_classes)[cells[:, 1]]
    is_right = cells[:, 0] == cells[:, 1]
    right = counts[:, is_right] @ np.eye(n_classes)[cells[is_right, 0]]
    n = counts.sum(axis=1)
    f1 = 2.0 * right / np.maximum(expected + predicted, 1.0)
    return {
        "accuracy": right.sum(axis=1) / n,
        "uar": _masked_mean(right / np.maximum(expected, 1.0), expected > 0),
        "weighted_f1": (f1 * expected).sum(axis=1) / n,
        "macro_f1": _masked_mean(f1, expected + predicted > 0),
    }


def _masked_mean(values: Floats, mask: npt.NDArray[np.bool_]) -> Floats:
    """Return the mean of each row of `values` over its entries in `mask`, 0 for none."""
    means: Floats = (values * mask).sum(axis=1) / np.maximum(mask.sum(axis=1), 1)
    return means


def _chance_scores(class_counts: Labels, n_classes: int) -> dict[str, float]:
    shares = class_counts / class_counts.sum()
    f1 = 2.0 * shares / n_classes / np.maximum(shares + 1.0 / n_classes, 1e-12)
    return {
        "accuracy": 1.0 / n_classes,
        "uar": 1.0 / n_classes,
        "weighted_f1": float((f1 * shares).sum()),
        "macro_f1": float(f1.mean()),
    }


def score_multi_label(
    expected: npt.NDArray[np.bool_], probabilities: Floats, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> ClassScores:
    """Score label probabilities by the metrics in `MULTI_LABEL_METRICS`; labels that no item has are left out.

    The majority guess is no label for any item, and for a ranking the same probability for all; the chance guess is
    each label with probability 0.5.

    Args:
        expected: Whether an item has a label, shape (n, labels).
        probabilities: Probabilities of the labels, shape (n, labels).
        num_resamples: Bootstrap resamples of the items; 0 for intervals without width.
        seed: Seed of the resamples.

    Raises:
        ValueError: There are no items, no item has a label, or shapes disagree.
    """
    if expected.shape != probabilities.shape or not len(expected):
        raise ValueError(
            f"probabilities have shape {probabilities.shape}, expected {expected.shape} with at least one item"
        )
    is_used = expected.any(axis=0)
    if not is_used.any():
        raise ValueError("no item has a label")
    expected, probabilities = expected[:, is_used], probabilities[:, is_used]
    n, n_labels = expected.shape
    generator = np.random.default_rng(seed)
    weights = np.ones((1 + num_resamples, n))
    weights[1:] = generator.multinomial(n, np.full(n, 1.0 / n), size=num_resamples)
    precision, f1 = np.zeros((2, 1 + num_resamples, n_labels))
    present = np.zeros((1 + num_resamples, n_labels), dtype=bool)
    for label in range(n_labels):
        precision[:, label] = weighted_average_precision(expected[:, label], probabilities[:, label], weights)
        predicted = probabilities[:, label] > 0.5
        num_right = weights @ (predicted & expected[:, label])
        num_expected = weights @ expected[:, label]
        f1[:, label] = 2.0 * num_right / np.maximum(num_expected + weights @ predicted, 1.0)
        present[:, label] = num_expected > 0
    shares = expected.mean(axis=0)
    return ClassScores(
        n,
        {
            "map": _with_interval(_masked_mean(precision, present)),
            "macro_f1": _with_interval(_masked_mean(f1, present)),
        },
        {"map": float(shares.mean()), "macro_f1": 0.0},
        {"map": float(shares.mean()), "macro_f1": float((shares / (shares + 0.5)).mean())},
    )


def weighted_average_precision(expected: npt.NDArray[np.bool_], scores: Floats, weights: Floats) -> Floats:
    """Return the average precision of a ranking under several weightings of its items, shape (b,).

    AP = sum over thresholds of (R_i - R_(i-1)) P_i with precision P and recall R, as scikit-learn's
    `average_precision_score`; items of equal score share a threshold.

    Args:
        expected: Whether an item is a positive, shape (n,).
        scores: Scores to rank by, shape (n,).
        weights: Weights of the items, shape (b, n), such as counts in bootstrap resamples.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    counted = weights[:, order]
    seen = counted.cumsum(axis=1)[:, ends]
    right = (counted * expected[order]).cumsum(axis=1)[:, ends]
    new = np.diff(right, axis=1, prepend=0.0)
    total = np.maximum(right[:, -1], 1e-12)
    average_precision: Floats = (new * right / np.maximum(seen, 1e-12)).sum(axis=1) / total
    return average_precision


def confusion_matrix(expected: Labels, predicted: Labels, n_classes: int) -> Labels:
    """Return the number of items by true class (row) and predicted class (column), shape (n_classes, n_classes)."""
    matrix = np.bincount(expected * n_classes + predicted, minlength=n_classes * n_classes)
    return matrix.reshape(n_classes, n_classes).astype(np.int64)


def _with_interval(values: Floats) -> Score:
    """Return the first of `values` with the 95 % percentile interval of the others."""
    if len(values) == 1:
        return Score(float(values[0]), (float(values[0]), float(values[0])))
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return Score(float(values[0]), (float(low), float(high)))

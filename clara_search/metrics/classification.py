"""Scores of classification, each with its interval, and what guessing would score beside them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clara_search.metrics.intervals import Interval

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

BOOTSTRAP_SAMPLES = 1000


@dataclass(frozen=True)
class Score:
    """A score and its 95 % percentile interval over resamplings of the items."""

    value: float
    interval: Interval

    def __str__(self) -> str:
        """Return the score as people read it: "0.412 [0.380, 0.443]"."""
        return f"{self.value:.3f} [{self.interval[0]:.3f}, {self.interval[1]:.3f}]"


@dataclass(frozen=True)
class ClassScores:
    """How `n` items were named: `scores` by name of the measure, and what `majority` and `chance` reach of them."""

    n: int
    scores: dict[str, Score]
    majority: dict[str, float]
    chance: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return the scores as JSON takes them."""
        return asdict(self)


SINGLE = ("accuracy", "uar", "weighted_f1", "macro_f1")
"""Measures of one label an item: the share of right ones; recall, averaged over classes; F1, averaged over classes by
their size, and over classes."""

MULTI = ("map", "macro_f1")
"""Measures of several labels an item: average precision and F1 (of labels above one half), averaged over labels."""


def score_single_label(
    expected: Labels,
    predicted: Labels,
    n_classes: int,
    majority: int,
    resamplings: int = BOOTSTRAP_SAMPLES,
    seed: int = 0,
) -> ClassScores:
    """Score class numbers `predicted` against `expected`, both of shape (n,).

    A class that nobody expects has no recall, one that is neither expected nor predicted no F1: the averages leave them
    out. `majority` is the most frequent class of what was trained on. `chance` is what even guessing among `n_classes`
    reaches in expectation. Raises ValueError for no items or shapes that disagree.
    """
    if len(expected) != len(predicted) or not len(expected):
        raise ValueError("need one prediction an item, and some items")
    cells, counts = np.unique(np.stack([expected, predicted], axis=1), axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(expected), counts / len(expected), size=resamplings)
    all_counts = np.concatenate([counts[None], drawn]).astype(np.float64)
    values = _of_cells(cells, all_counts, n_classes)
    always = np.full_like(expected, majority)
    guessed, often = np.unique(np.stack([expected, always], axis=1), axis=0, return_counts=True)
    constant = _of_cells(guessed, often[None].astype(np.float64), n_classes)
    return ClassScores(
        len(expected),
        {name: _with_interval(values[name]) for name in SINGLE},
        {name: float(constant[name][0]) for name in SINGLE},
        _even_guessing(np.bincount(expected, minlength=n_classes), n_classes),
    )


def single_label_measures(expected: Labels, predicted: Labels, n_classes: int) -> dict[str, float]:
    """Return accuracy, UAR, weighted and macro F1 of `predicted`, as `score_single_label` has them."""
    cells, counts = np.unique(np.stack([expected, predicted], axis=1), axis=0, return_counts=True)
    return {
        name: float(value[0]) for name, value in _of_cells(cells, counts[None].astype(np.float64), n_classes).items()
    }


def _of_cells(cells: Labels, counts: Floats, n_classes: int) -> dict[str, Floats]:
    """Return each measure, shape (b,), of `b` confusion matrices: `counts` (b, k) in their `cells` (k, 2)."""
    expected = counts @ np.eye(n_classes)[cells[:, 0]]
    predicted = counts @ np.eye(n_classes)[cells[:, 1]]
    hit = cells[:, 0] == cells[:, 1]
    right = counts[:, hit] @ np.eye(n_classes)[cells[hit, 0]]
    n = counts.sum(axis=1)
    f1 = 2.0 * right / np.maximum(expected + predicted, 1.0)
    return {
        "accuracy": right.sum(axis=1) / n,
        "uar": _mean_where(right / np.maximum(expected, 1.0), expected > 0),
        "weighted_f1": (f1 * expected).sum(axis=1) / n,
        "macro_f1": _mean_where(f1, expected + predicted > 0),
    }


def _mean_where(values: Floats, there: npt.NDArray[np.bool_]) -> Floats:
    found: Floats = (values * there).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    return found


def _even_guessing(expected: Labels, n_classes: int) -> dict[str, float]:
    shares = expected / expected.sum()
    f1 = 2.0 * shares / n_classes / np.maximum(shares + 1.0 / n_classes, 1e-12)
    return {
        "accuracy": 1.0 / n_classes,
        "uar": 1.0 / n_classes,
        "weighted_f1": float((f1 * shares).sum()),
        "macro_f1": float(f1.mean()),
    }


def score_multi_label(
    expected: npt.NDArray[np.bool_], probabilities: Floats, resamplings: int = BOOTSTRAP_SAMPLES, seed: int = 0
) -> ClassScores:
    """Score `probabilities` (n, labels) against which labels are `expected`, the same shape.

    A label that no item has counts for nothing. Average precision is the mean of the precision at each right item.
    The majority's answer is no label anywhere, or for a ranking the same for all; even guessing names half of them.
    Raises ValueError for no items, no label at all, or shapes that disagree.
    """
    if expected.shape != probabilities.shape or not len(expected):
        raise ValueError("need one probability an item and label, and some items")
    there = expected.any(axis=0)
    if not there.any():
        raise ValueError("no item has a label")
    expected, probabilities = expected[:, there], probabilities[:, there]
    n, n_labels = expected.shape
    generator = np.random.default_rng(seed)
    weights = np.ones((1 + resamplings, n))
    weights[1:] = generator.multinomial(n, np.full(n, 1.0 / n), size=resamplings)
    precision, f1 = np.zeros((2, 1 + resamplings, n_labels))
    present = np.zeros((1 + resamplings, n_labels), dtype=bool)
    for label in range(n_labels):
        precision[:, label] = weighted_average_precision(expected[:, label], probabilities[:, label], weights)
        named = probabilities[:, label] > 0.5
        both = weights @ (named & expected[:, label])
        has = weights @ expected[:, label]
        f1[:, label] = 2.0 * both / np.maximum(has + weights @ named, 1.0)
        present[:, label] = has > 0
    shares = expected.mean(axis=0)
    return ClassScores(
        n,
        {
            "map": _with_interval(_mean_where(precision, present)),
            "macro_f1": _with_interval(_mean_where(f1, present)),
        },
        {"map": float(shares.mean()), "macro_f1": 0.0},
        {"map": float(shares.mean()), "macro_f1": float((shares / (shares + 0.5)).mean())},
    )


def weighted_average_precision(expected: npt.NDArray[np.bool_], scores: Floats, weights: Floats) -> Floats:
    """Return the average precision, shape (b,), of a ranking by `scores` (n,), items counted by `weights` (b, n).

    Items of equal score stand in one step: each is preceded by all of them.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    counted = weights[:, order]
    seen = counted.cumsum(axis=1)[:, ends]
    right = (counted * expected[order]).cumsum(axis=1)[:, ends]
    new = np.diff(right, axis=1, prepend=0.0)
    total = np.maximum(right[:, -1], 1e-12)
    found: Floats = (new * right / np.maximum(seen, 1e-12)).sum(axis=1) / total
    return found


def confusion_matrix(expected: Labels, predicted: Labels, n_classes: int) -> Labels:
    """Return how often each class (row) was named as each (column), shape (n_classes, n_classes)."""
    matrix = np.bincount(expected * n_classes + predicted, minlength=n_classes * n_classes)
    return matrix.reshape(n_classes, n_classes).astype(np.int64)


def _with_interval(values: Floats) -> Score:
    """Return the first of `values` with the interval that the others span."""
    if len(values) == 1:
        return Score(float(values[0]), (float(values[0]), float(values[0])))
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return Score(float(values[0]), (float(low), float(high)))

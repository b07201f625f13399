"""Calibrated probabilities: one temperature, fitted on labelled examples (Guo et al. 2017, arXiv 1706.04599)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MIN_TEMPERATURE, MAX_TEMPERATURE = 1e-3, 1e3
"""Bounds of the search: cosines need a low temperature, the logits of an overconfident head a high one."""

_STEPS = 100
_NUM_BINS = 10


@dataclass(frozen=True)
class Calibration:
    """A temperature, and its effect on the examples that it was fitted on.

    Attributes:
        temperature: The divisor of the logits.
        num_examples: Number of examples.
        log_loss: Mean negative log-likelihood of the true label, in nats.
        uniform_log_loss: That of giving all labels the same probability.
        calibration_error: Expected calibration error: mean distance of confidence and accuracy, over ten bins.
        accuracy: Share of right labels, which no temperature changes.
    """

    temperature: float
    num_examples: int
    log_loss: float
    uniform_log_loss: float
    calibration_error: float
    accuracy: float

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as a dict for JSON."""
        return asdict(self)


def fit_temperature(logits: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.int64]) -> float:
    """Return the temperature of the highest likelihood.

    Labels are smoothed to (n + 1) / (n + classes), as in Platt scaling: a few examples that are all right do not
    justify certainty. The likelihood has one maximum in 1 / temperature; a golden-section search over the logarithm
    finds it.

    Args:
        logits: Shape (n, classes).
        labels: True classes, shape (n,).

    Returns:
        The temperature, between MIN_TEMPERATURE and MAX_TEMPERATURE.
    """
    logits = np.asarray(logits, dtype=np.float64)
    smoothing = (logits.shape[1] - 1) / (len(labels) + logits.shape[1])
    low, high = np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE)
    ratio = (np.sqrt(5.0) - 1.0) / 2.0
    for _ in range(_STEPS):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        if _log_loss(logits / np.exp(a), labels, smoothing) < _log_loss(logits / np.exp(b), labels, smoothing):
            high = b
        else:
            low = a
    return float(np.exp((low + high) / 2.0))


def calibrate(logits: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.int64]) -> Calibration:
    """Fit a temperature and measure its effect.

    Args:
        logits: Shape (n, classes).
        labels: True classes, shape (n,).

    Returns:
        The calibration.
    """
    temperature = fit_temperature(logits, labels)
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    probabilities = softmax(scaled)
    is_right = probabilities.argmax(axis=1) == labels
    return Calibration(
        temperature,
        len(labels),
        _log_loss(scaled, labels),
        float(np.log(logits.shape[1])),
        calibration_error(probabilities.max(axis=1), is_right),
        float(is_right.mean()),
    )


def calibration_error(confidence: Floats, is_right: npt.NDArray[np.bool_]) -> float:
    """Return the expected calibration error: mean distance of confidence and accuracy over ten bins of confidence.

    Args:
        confidence: Probability of the predicted label, shape (n,).
        is_right: Whether it is the true label, shape (n,).

    Returns:
        The error, from 0 to 1; bins count by their size.
    """
    bins = np.minimum((confidence * _NUM_BINS).astype(int), _NUM_BINS - 1)
    gaps = [abs(float(confidence[bins == b].sum() - is_right[bins == b].sum())) for b in range(_NUM_BINS)]
    return sum(gaps) / len(confidence)


def softmax(logits: npt.NDArray[np.floating[Any]]) -> Floats:
    """Return probabilities along the last axis."""
    shifted = np.asarray(logits, dtype=np.float64)
    exponentials = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    probabilities: Floats = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities


def _log_loss(logits: Floats, labels: npt.NDArray[np.int64], smoothing: float = 0.0) -> float:
    """Return the mean loss in nats; the true label has the weight 1 - smoothing, the others share the rest."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_sums = np.log(np.exp(shifted).sum(axis=1))
    true = shifted[np.arange(len(labels)), labels]
    others = (shifted.sum(axis=1) - true) / max(logits.shape[1] - 1, 1)
    return float((log_sums - (1.0 - smoothing) * true - smoothing * others).mean())

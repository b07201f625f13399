"""Probabilities that mean what they say: one temperature, fitted on labelled examples (arXiv 1706.04599)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

COLDEST, HOTTEST = 1e-3, 1e3
"""Between these the temperature is sought: cosines need a low one, the logits of a sure head a high one."""

_STEPS = 100
_BINS = 10


@dataclass(frozen=True)
class Calibration:
    """A temperature and what it does on the `n` examples it was fitted on.

    Attributes:
        temperature: what logits are divided by.
        n: examples.
        log_loss: mean negative log-likelihood of the right label, in nats.
        even_log_loss: that of giving all labels the same probability.
        error: expected calibration error: how far confidence and accuracy are apart, over ten bins.
        accuracy: share of right labels, which no temperature changes.
    """

    temperature: float
    n: int
    log_loss: float
    even_log_loss: float
    error: float
    accuracy: float

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return asdict(self)


def fit_temperature(logits: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.int64]) -> float:
    """Return the temperature under which `labels` (n,) are likeliest given `logits` (n, classes).

    Each label is believed to (n + 1) / (n + classes) only, as Platt has it: a few examples that are all right ask for
    no certainty. The likelihood has one maximum in 1 / temperature, found by golden section over its logarithm.
    """
    logits = np.asarray(logits, dtype=np.float64)
    doubt = (logits.shape[1] - 1) / (len(labels) + logits.shape[1])
    low, high = np.log(COLDEST), np.log(HOTTEST)
    ratio = (np.sqrt(5.0) - 1.0) / 2.0
    for _ in range(_STEPS):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        if _log_loss(logits / np.exp(a), labels, doubt) < _log_loss(logits / np.exp(b), labels, doubt):
            high = b
        else:
            low = a
    return float(np.exp((low + high) / 2.0))


def calibrate(logits: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.int64]) -> Calibration:
    """Fit the temperature of `logits` (n, classes) to `labels` (n,), and say what it does."""
    temperature = fit_temperature(logits, labels)
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    probabilities = softmax(scaled)
    right = probabilities.argmax(axis=1) == labels
    return Calibration(
        temperature,
        len(labels),
        _log_loss(scaled, labels),
        float(np.log(logits.shape[1])),
        calibration_error(probabilities.max(axis=1), right),
        float(right.mean()),
    )


def calibration_error(confidence: Floats, right: npt.NDArray[np.bool_]) -> float:
    """Return the mean distance of confidence and accuracy, over ten bins of confidence, weighed by their size."""
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps = [abs(float(confidence[bins == b].sum() - right[bins == b].sum())) for b in range(_BINS)]
    return sum(gaps) / len(confidence)


def softmax(logits: npt.NDArray[np.floating[Any]]) -> Floats:
    """Return probabilities along the last axis."""
    shifted = np.asarray(logits, dtype=np.float64)
    exponentials = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    found: Floats = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return found


def _log_loss(logits: Floats, labels: npt.NDArray[np.int64], doubt: float = 0.0) -> float:
    """Return the mean loss in nats, where a label is right but for `doubt`, which all others share."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_sums = np.log(np.exp(shifted).sum(axis=1))
    right = shifted[np.arange(len(labels)), labels]
    others = (shifted.sum(axis=1) - right) / max(logits.shape[1] - 1, 1)
    return float((log_sums - (1.0 - doubt) * right - doubt * others).mean())

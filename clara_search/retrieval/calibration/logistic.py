"""Logistic regression with a prior, for a few weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_STEPS = 50


def sigmoid(logits: Floats) -> Floats:
    """Return the probabilities of logits."""
    bounded = np.clip(logits, -50, 50)
    return np.asarray(1 / (1 + np.exp(-bounded)), dtype=np.float64)


def fit_logistic(features: Floats, targets: npt.NDArray[np.bool_], prior: Floats, strength: Floats) -> Floats:
    """Fit weights that are not negative, and a bias, by Newton's method.

    Args:
        features: Shape (n, f).
        targets: Whether each is positive, shape (n,).
        prior: Weights and bias to stay near, shape (f + 1,).
        strength: What a squared distance of 1 from the prior costs, in nats, shape (f + 1,).

    Returns:
        Weights and bias, shape (f + 1,).
    """
    x = np.column_stack([features, np.ones(len(features))])
    y = targets.astype(np.float64)
    weights = prior.astype(np.float64).copy()
    free = np.ones(len(weights), dtype=bool)
    for _ in range(_STEPS):
        p = sigmoid(x @ weights)
        gradient = x.T @ (p - y) + 2 * strength * (weights - prior)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + 2 * np.diag(strength)
        free[:-1] = (weights[:-1] > 0) | (gradient[:-1] < 0)
        step = np.zeros(len(weights))
        step[free] = np.linalg.solve(hessian[np.ix_(free, free)], gradient[free])
        step /= max(1.0, float(np.abs(step).max()))
        weights -= step
        weights[:-1] = np.maximum(weights[:-1], 0)
        if float(np.abs(step).max()) < 1e-6:
            break
    return weights

"""The mean of several embeddings, renormalised."""

from __future__ import annotations

import numpy as np

from clara_search.models.base import Embeddings


def mean_direction(embeddings: Embeddings) -> Embeddings:
    """Return the unit vectors along the means of `embeddings` over their second last axis, (..., n, d) -> (..., d)."""
    mean = embeddings.mean(axis=-2, dtype=np.float64)
    norm = np.linalg.norm(mean, axis=-1, keepdims=True)
    return np.asarray(mean / np.maximum(norm, 1e-12), dtype=np.float32)

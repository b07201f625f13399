"""Confidence intervals: bootstrap and Wilson."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Interval = tuple[float, float]


def bootstrap_intervals(per_query: npt.NDArray[np.float64], resamplings: int, seed: int) -> list[Interval]:
    """Return the 95 % percentile interval of each column's mean, `per_query` of shape (queries, scores)."""
    if resamplings == 0:
        return [(float(mean), float(mean)) for mean in per_query.mean(axis=0)]
    generator = np.random.default_rng(seed)
    n = len(per_query)
    means = np.stack([per_query[generator.integers(0, n, n)].mean(axis=0) for _ in range(resamplings)])
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def wilson_interval(successes: int, n: int) -> Interval:
    """Return Wilson's 95 % interval of a proportion, which is sound also near 0 and 1."""
    z = 1.959963984540054
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(centre - half, 0.0), min(centre + half, 1.0)

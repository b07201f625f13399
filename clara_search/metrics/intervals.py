"""Confidence intervals: the percentile bootstrap and Wilson's score interval."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Interval = tuple[float, float]
"""Lower and upper bound."""

_Z = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""

_DRAWN = 1 << 22
"""Counts that are held at once."""


def bootstrap_intervals(per_query: npt.NDArray[np.float64], num_resamples: int, seed: int) -> list[Interval]:
    """Return a 95 % percentile interval of the mean of each column (Efron, 1979, doi:10.1214/aos/1176344552).

    The interval is from the 2.5 % to the 97.5 % quantile of the means over resamples of the rows, drawn with
    replacement.

    Args:
        per_query: Scores, shape (queries, scores).
        num_resamples: Number of resamples; 0 for intervals without width at the means.
        seed: Seed of the resamples.
    """
    if num_resamples == 0:
        return [(float(mean), float(mean)) for mean in per_query.mean(axis=0)]
    rows, counts = np.unique(
        per_query, axis=0, return_counts=True
    )  # a resample is how often each different row is drawn
    drawn = np.random.default_rng(seed).multinomial(len(per_query), counts / len(per_query), size=num_resamples)
    means = drawn @ rows / len(per_query)
    lows, highs = np.percentile(means, [2.5, 97.5], axis=0)
    return [(float(low), float(high)) for low, high in zip(lows, highs, strict=True)]


def wilson_interval(successes: int, n: int) -> Interval:
    """Return Wilson's 95 % score interval of a proportion, sound also near 0 and 1.

    With p = successes / n and z = 1.96, the interval is (p + z²/2n ± z √(p(1 - p)/n + z²/4n²)) / (1 + z²/n)
    (Wilson, 1927, doi:10.1080/01621459.1927.10502953).

    Args:
        successes: Number of successes.
        n: Number of trials, at least 1.
    """
    share = successes / n
    centre = (share + _Z * _Z / (2 * n)) / (1 + _Z * _Z / n)
    half = _Z / (1 + _Z * _Z / n) * math.sqrt(share * (1 - share) / n + _Z * _Z / (4 * n * n))
    return max(centre - half, 0.0), min(centre + half, 1.0)

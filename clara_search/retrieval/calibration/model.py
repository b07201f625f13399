"""The probability that a hit is what was asked for, from its cosine and the texts, and how it is fitted.

A hit is described by three features: how far its cosine stands above the best cosines of queries without a match in
this table, in units of their spread; how far it falls behind the best hit of its query; and how much the query agrees
with its text. A logistic function of them is the probability, for queries of which half have a match.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt

from clara_search.config import Between, check_bounds
from clara_search.retrieval.calibration.logistic import Floats, fit_logistic, sigmoid

FALSE_ALARMS = 0.08
FALSE_ALARMS_BY_TEXT = 0.04
"""The share of the background's queries that may be answered at the default threshold.

It is lower for rows with texts: what people ask shares more words with captions than the background's queries do.
"""

_FEWEST_MATCHES = 16
_PRIOR_STRENGTH = 2.0
_FIXED = 1e4
_SMALLEST_SPREAD = 0.01

Weight = Annotated[float, Between(0, 100)]
Bias = Annotated[float, Between(-50, 0)]


@dataclass(frozen=True)
class Weights:
    """The logistic function of a hit.

    Attributes:
        height: Weight of the height of its cosine.
        gap: Weight of its distance from the best hit, which counts against it.
        text: Weight of the agreement of texts.
        bias: The logit of a hit of height 0 that is its query's best and agrees in nothing; never above 0, for that is
            what a query without a match finds.
    """

    height: Weight
    gap: Weight
    text: Weight
    bias: Bias

    def __post_init__(self) -> None:
        check_bounds(self)

    def as_array(self, with_text: bool) -> Floats:
        """Return the weights and the bias, shape (4,) or (3,)."""
        values = [self.height, self.gap, self.text, self.bias]
        return np.array(values if with_text else [*values[:2], self.bias])


@dataclass(frozen=True)
class Calibration:
    """The calibration of one direction, such as text to audio.

    Attributes:
        null_mean: Middle of the best cosines of queries without a match.
        null_spread: Their spread, as a standard deviation.
        plain: Weights for hits without a text, or of queries that are no text.
        texts: Weights for hits with a text, of queries that are one.
        threshold: The probability that hardly any of the queries without a match reach.
        num_background: Number of queries without a match.
        num_matched: Number of queries with a known match; 0: the weights are those that every table begins with.
    """

    null_mean: Annotated[float, Between(-1, 1)]
    null_spread: Annotated[float, Between(_SMALLEST_SPREAD, 2)]
    plain: Weights
    texts: Weights
    threshold: Annotated[float, Between(0, 1)]
    num_background: Annotated[int, Between(1, 1 << 20)]
    num_matched: Annotated[int, Between(0, 1 << 20)]

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.threshold < 0.99 / (1 + math.exp(-min(self.plain.bias, self.texts.bias))):
            raise ValueError("the threshold lies below what half of the queries without a match reach")

    def probabilities(self, cosines: Floats, agreements: Floats) -> Floats:
        """Return the probabilities of the hits of one query.

        Args:
            cosines: Their cosines, shape (n,).
            agreements: The agreement of each text with the query, NaN where one of the two is missing, shape (n,).

        Returns:
            Probabilities, shape (n,).
        """
        if not len(cosines):
            return np.zeros(0)
        heights = (cosines - self.null_mean) / self.null_spread
        gaps = np.nanmax(heights) - heights
        plain = self.plain.height * heights - self.plain.gap * gaps + self.plain.bias
        texts = self.texts.height * heights - self.texts.gap * gaps + self.texts.text * agreements + self.texts.bias
        return sigmoid(np.where(np.isnan(agreements), plain, texts))


class Trials(NamedTuple):
    """The best hits of queries for which it is known what matches.

    Attributes:
        cosines: Shape (queries, hits), descending; NaN where a query has fewer hits.
        agreements: Agreement of texts; NaN where there are none.
        matches: Whether the hit is a match.
    """

    cosines: Floats
    agreements: Floats
    matches: npt.NDArray[np.bool_]


DEFAULTS = {
    "text-audio": (Weights(0.9, 0.7, 0.0, -3.4), Weights(0.9, 0.7, 8.7, -6.8)),
    "text-text": (Weights(1.8, 3.5, 0.0, -4.2), Weights(1.8, 3.5, 4.0, -6.0)),
    "audio-audio": (Weights(1.5, 0.2, 0.0, -2.8), Weights(1.5, 0.2, 0.0, -2.8)),
    "audio-text": (Weights(0.9, 0.7, 0.0, -3.4), Weights(0.9, 0.7, 0.0, -3.4)),
}
"""The weights that every table begins with, without and with texts, by direction. Those of text to audio were fitted to
two collections of recordings that are neither the demo's nor a benchmark's."""


def fit(direction: str, background: Trials, matched: Trials) -> Calibration:
    """Fit the calibration of a direction.

    Args:
        direction: A key of DEFAULTS.
        background: Queries without a match; at least one.
        matched: Queries with a match, as far as one was found.

    Returns:
        The calibration.
    """
    best = background.cosines[:, 0]
    middle = float(np.median(best))
    # The smaller side: some of the queries may have a match after all.
    sides = (middle - np.quantile(best, 0.16), (np.quantile(best, 0.9) - middle) / 1.2816)
    spread = max(float(min(sides)), _SMALLEST_SPREAD)
    plain, texts = DEFAULTS[direction]
    enough = int(matched.matches.any(axis=1).sum()) >= _FEWEST_MATCHES
    if enough:
        plain = _fit_weights([background, matched], middle, spread, plain, with_text=False)
        # Cosines count as they do without texts: own texts agree with themselves so well that nothing else would count.
        prior = Weights(plain.height, plain.gap, texts.text, texts.bias)
        texts = _fit_weights([background, matched], middle, spread, prior, with_text=True)
    unset = Calibration(middle, spread, plain, texts, 1.0, len(best), len(matched.matches) if enough else 0)
    highest = [
        float(np.nanmax(unset.probabilities(cosines, agreements)))
        for cosines, agreements in zip(background.cosines, background.agreements, strict=True)
    ]
    is_by_text = bool(np.isfinite(background.agreements).any())
    threshold = float(np.quantile(highest, 1 - (FALSE_ALARMS_BY_TEXT if is_by_text else FALSE_ALARMS)))
    return Calibration(middle, spread, plain, texts, threshold, len(best), unset.num_matched)


def describe(cosines: Floats, agreements: Floats, null_mean: float, null_spread: float) -> Floats:
    """Return height, gap and agreement of hits, shape (queries, hits, 3), of cosines and agreements (queries, hits)."""
    heights = (cosines - null_mean) / null_spread
    gaps = np.nanmax(heights, axis=1, keepdims=True) - heights
    return np.stack([heights, gaps, np.nan_to_num(agreements)], axis=-1)


def _fit_weights(
    trials: Sequence[Trials], null_mean: float, null_spread: float, prior: Weights, with_text: bool
) -> Weights:
    """Fit weights to hits, those of trials with and without a match counting alike."""
    features, targets = [], []
    for trial in trials:
        described = describe(trial.cosines, trial.agreements, null_mean, null_spread)
        use = ~np.isnan(trial.cosines)
        if with_text:
            use &= ~np.isnan(trial.agreements)
        features.append(described[use] * [1, -1, 1] if with_text else described[use][:, :2] * [1, -1])
        targets.append(trial.matches[use])
    x, y = np.concatenate(features), np.concatenate(targets)
    if not y.any() or y.all():
        return prior
    strength = np.array([_FIXED, _FIXED, _PRIOR_STRENGTH, _PRIOR_STRENGTH] if with_text else [_PRIOR_STRENGTH] * 3)
    height, gap, *text, bias = fit_logistic(x, y, prior.as_array(with_text), strength).tolist()
    height, gap, agreement = (min(value, 100.0) for value in (height, gap, text[0] if text else 0.0))
    return Weights(height, gap, agreement, bias=min(max(bias, -50.0), 0.0))

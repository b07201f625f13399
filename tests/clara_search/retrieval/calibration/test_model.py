"""Probabilities are right on average, and few queries for what is not there reach the threshold."""

from __future__ import annotations

import numpy as np
import pytest

from clara_search.retrieval.calibration.agreement import text_agreement
from clara_search.retrieval.calibration.logistic import fit_logistic, sigmoid
from clara_search.retrieval.calibration.model import DEFAULTS, Calibration, Trials, Weights, fit

HITS = 10


@pytest.mark.parametrize(
    ("query", "text", "agreement"),
    [
        ("A dog barks.", "a DOG barks", 1.0),
        ("a dog barks", "the cat sleeps", 0.0),
        ("horn", "horns", 2 * 3 / (4 + 5)),  # " ho", "hor", "orn" of 4 and 5 trigrams
        ("", "anything", 0.0),
        ("ein Schiffshorn", "Ship horn", 2 * 3 / (14 + 8)),
        ("\ud800 x", "\ud800 x", 1.0),
    ],
)
def test_agreement_counts_shared_trigrams(query, text, agreement):
    assert text_agreement(query, text) == pytest.approx(agreement)
    assert text_agreement(text, query) == text_agreement(query, text)


def test_agreement_takes_no_long_time_over_a_long_text():
    assert text_agreement("word " * 1_000_000, "word") == 1.0


def test_logistic_regression_finds_the_weights_that_made_the_data():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60_000, 3))
    truth = np.array([1.5, 0.0, 3.0, -2.0])
    targets = rng.random(60_000) < sigmoid(features @ truth[:3] + truth[3])
    prior = np.array([1.0, 1.0, 1.0, 0.0])
    assert fit_logistic(features, targets, prior, np.full(4, 1e-3)) == pytest.approx(truth, abs=0.08)
    assert fit_logistic(features, targets, prior, np.full(4, 1e9)) == pytest.approx(prior, abs=1e-3)
    against = fit_logistic(-features[:, :1], targets, np.array([1.0, 0.0]), np.full(2, 1e-3))
    assert against[0] == 0.0  # what speaks against a match has no weight


def trials(rng, count, has_match, middle=0.3, spread=0.07):
    """Queries whose best hits have normal cosines; a match has a higher one and agrees in words."""
    cosines = np.sort(rng.normal(middle, spread, size=(count, HITS)) - 0.15, axis=1)[:, ::-1].copy()
    agreements = rng.beta(1, 12, size=(count, HITS))
    matches = np.zeros((count, HITS), dtype=bool)
    if has_match:
        place = np.where(rng.random(count) < 0.6, 0, 2)
        matches[np.arange(count), place] = True
        cosines[:, 0] = np.maximum(cosines[:, 0], rng.normal(middle + 0.1, spread, count))
        agreements[matches] = rng.beta(4, 2, size=count)
    order = np.argsort(-cosines, axis=1)
    return Trials(*(np.take_along_axis(part, order, axis=1) for part in (cosines, agreements, matches)))


def calibration_error(probabilities, matches):
    bins = np.minimum((probabilities * 10).astype(int), 9)
    return sum(abs(probabilities[bins == b].sum() - matches[bins == b].sum()) for b in range(10)) / len(matches)


@pytest.mark.parametrize("texts", [True, False])
def test_probabilities_are_right_on_queries_that_were_not_fitted(texts):
    rng = np.random.default_rng(1)
    made = [trials(rng, count, has_match) for count, has_match in [(400, False), (400, True)] * 2]
    if not texts:
        made = [Trials(t.cosines, np.full_like(t.agreements, np.nan), t.matches) for t in made]
    background, matched, new_background, new_matched = made
    calibration = fit("text-audio", background, matched)
    found = [
        np.array([calibration.probabilities(c, a) for c, a in zip(t.cosines, t.agreements, strict=True)]) for t in made
    ]
    probabilities = np.concatenate([found[2].ravel(), found[3].ravel()])
    matches = np.concatenate([new_background.matches.ravel(), new_matched.matches.ravel()])
    assert calibration_error(probabilities, matches) < 0.03
    false_alarms = (found[2].max(axis=1) >= calibration.threshold).mean()
    assert (0.02 if texts else 0.05) < false_alarms < (0.08 if texts else 0.15)
    assert (found[3].max(axis=1) >= calibration.threshold).mean() > (0.95 if texts else 0.3)


def test_a_few_queries_with_a_match_in_the_background_do_not_move_the_middle():
    rng = np.random.default_rng(2)
    clean = trials(rng, 400, has_match=False)
    dirty = Trials(clean.cosines.copy(), clean.agreements, clean.matches)
    dirty.cosines[:40, 0] = 0.9
    plain, moved = (fit("text-audio", some, Trials(*(part[:0] for part in some))) for some in (clean, dirty))
    assert moved.null_mean == pytest.approx(plain.null_mean, abs=0.01)
    assert moved.null_spread == pytest.approx(plain.null_spread, rel=0.3)
    assert (plain.plain, plain.texts) == DEFAULTS["text-audio"]
    assert plain.num_matched == 0


def test_a_higher_cosine_and_more_agreement_are_never_less_probable():
    for plain, texts in DEFAULTS.values():
        calibration = Calibration(0.3, 0.07, plain, texts, 0.5, 90, 0)
        best = [calibration.probabilities(np.array([c]), np.array([np.nan]))[0] for c in np.linspace(-1, 1, 30)]
        assert best == sorted(best)
        agree = [calibration.probabilities(np.array([0.3]), np.array([a]))[0] for a in np.linspace(0, 1, 30)]
        assert agree == sorted(agree)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"null_mean": -1.5}, "null_mean must lie between -1 and 1"),
        ({"null_spread": 1e-9}, "null_spread must lie"),
        ({"null_spread": float("nan")}, "null_spread must lie"),
        ({"threshold": 0.0}, "below what half of the queries"),
        ({"num_background": 0}, "num_background"),
    ],
)
def test_a_calibration_that_no_fit_gives_is_refused(change, message):
    plain, texts = DEFAULTS["text-audio"]
    values = {"null_mean": 0.3, "null_spread": 0.07, "plain": plain, "texts": texts, "threshold": 0.1}
    values |= {"num_background": 90, "num_matched": 0}
    Calibration(**values)
    with pytest.raises(ValueError, match=message):
        Calibration(**{**values, **change})
    with pytest.raises(ValueError, match="bias must lie between -50 and 0"):
        Weights(1.0, 1.0, 1.0, 5.0)

"""Moments against values worked out by hand, and against a threshold swept in small steps."""

from __future__ import annotations

import numpy as np
import pytest

from clara_search.metrics.moments import average_precision, intersection_over_union, score_moments


def test_intersection_over_union_by_hand() -> None:
    assert intersection_over_union((0, 10), (5, 15)) == pytest.approx(5 / 15)
    assert intersection_over_union((0, 10), (0, 10)) == 1.0
    assert intersection_over_union((0, 10), (10, 20)) == 0.0
    assert intersection_over_union((3, 3), (3, 3)) == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_intersection_over_union_is_that_of_counted_instants(seed: int) -> None:
    generator = np.random.default_rng(seed)
    first, second = np.sort(generator.integers(0, 60, (2, 2)), axis=1).tolist()
    instants = np.arange(0, 60, 0.01) + 0.005
    inside = [(instants > span[0]) & (instants < span[1]) for span in (first, second)]
    expected = (inside[0] & inside[1]).sum() / max((inside[0] | inside[1]).sum(), 1)
    assert intersection_over_union(tuple(first), tuple(second)) == pytest.approx(expected, abs=1e-6)


def test_average_precision_by_hand() -> None:
    true = [(0.0, 10.0), (20.0, 30.0)]
    assert average_precision([(0, 10), (20, 30)], true, 0.5) == 1.0
    assert average_precision([(0, 10), (0, 9), (20, 30)], true, 0.5) == pytest.approx((1 + 2 / 3) / 2)  # found once
    assert average_precision([(40, 50), (0, 10)], true, 0.5) == pytest.approx(0.5 / 2)
    assert average_precision([(40, 50), (0, 10), (20, 30)], true, 0.5) == pytest.approx(2 / 3)  # interpolated
    assert average_precision([(0, 6)], true, 0.7) == 0.0
    assert average_precision([], true, 0.5) == 0.0


def test_scores_over_queries() -> None:
    true = [[(0.0, 10.0)], [(0.0, 10.0)], [(0.0, 10.0), (20.0, 30.0)]]
    predicted = [[(0.0, 6.0)], [(0.0, 8.0)], [(20.0, 30.0)]]
    scores = score_moments(predicted, true)
    assert scores.r1 == {0.5: 1.0, 0.7: pytest.approx(2 / 3)}
    # IoU 0.6 is reached by 3 of the 10 thresholds, 0.8 by 7, and one of two moments is found by all.
    assert scores.map == pytest.approx((0.3 + 0.7 + 0.5) / 3)
    assert scores.r1_interval[0.7][0] <= 2 / 3 <= scores.r1_interval[0.7][1]
    assert scores.as_dict()["r1"]["0.5"] == 1.0
    assert score_moments([[]], [[(0.0, 1.0)]]).r1[0.5] == 0.0


def test_what_cannot_be_scored_is_named() -> None:
    with pytest.raises(ValueError, match="1 answers to 2 queries"):
        score_moments([[]], [[(0.0, 1.0)], [(0.0, 1.0)]])
    with pytest.raises(ValueError, match="no true moment"):
        score_moments([[]], [[]])

"""The paired test against counting all swaps, and against SciPy."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import permutation_test

from clara_search.metrics.comparison import paired_difference


@pytest.mark.parametrize("seed", range(3))
def test_the_p_value_is_the_share_of_swaps_that_give_as_large_a_difference(seed: int) -> None:
    generator = np.random.default_rng(seed)
    first, second = generator.integers(0, 2, 12).astype(float), generator.random(12).round(1)
    differences = second - first
    sums = [abs(np.dot(signs, differences)) for signs in product((-1, 1), repeat=12)]
    exact = np.mean([value >= abs(differences.sum()) - 1e-9 for value in sums])
    found = paired_difference(first, second)
    assert found.p_value == pytest.approx(exact, abs=0.02)
    theirs = permutation_test(
        (second, first), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
    )
    assert found.p_value == pytest.approx(theirs.pvalue, abs=0.02)
    assert found.difference == pytest.approx(differences.mean())
    assert found.interval[0] <= found.difference <= found.interval[1]


def test_equal_models_differ_by_nothing_and_better_ones_by_chance_alone_never() -> None:
    scores = np.random.default_rng(0).integers(0, 2, 400).astype(float)
    same = paired_difference(scores, scores)
    assert (same.difference, same.interval, same.p_value) == (0.0, (0.0, 0.0), 1.0)
    better = paired_difference(np.zeros(400), np.ones(400))
    assert (better.difference, better.p_value) == (1.0, pytest.approx(1e-4, abs=1e-6))
    with pytest.raises(ValueError, match="3 and 2 scores"):
        paired_difference([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="0 and 0 scores"):
        paired_difference([], [])

"""Ranks against sorting whole galleries, and scores against torchmetrics and scikit-learn, with ties throughout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.metrics import label_ranking_average_precision_score
from torchmetrics.functional.retrieval import (
    retrieval_average_precision,
    retrieval_hit_rate,
    retrieval_reciprocal_rank,
)

from clara_search.metrics import ranking
from clara_search.metrics.ranking import not_finite, positive_ranks, relevant_ranks
from clara_search.metrics.retrieval import average_precision_at_k, hits_at_k, score_relevant

Relevant = list[list[int]]


def whole_numbers(rows: int, seed: int, dim: int = 6) -> npt.NDArray[np.float32]:
    """Vectors whose products are exact, and often equal."""
    return np.random.default_rng(seed).integers(-2, 3, (rows, dim)).astype(np.float32)


def relation(queries: int, items: int, most: int, seed: int) -> Relevant:
    """Between 1 and `most` positives a query, any of which several queries may have."""
    generator = np.random.default_rng(seed)
    return [
        generator.choice(items, size=generator.integers(1, most + 1), replace=False).tolist() for _ in range(queries)
    ]


def slow_ranks(query: npt.NDArray[np.float32], gallery: npt.NDArray[np.float32], own: Sequence[int]) -> list[int]:
    """Sort the gallery by hand; of equal products the positives come last."""
    entries = []
    for item, vector in enumerate(gallery):
        product = sum(float(a) * float(b) for a, b in zip(query, vector, strict=True))
        entries.append((-product, item in own))
    return [rank for rank, (_, is_positive) in enumerate(sorted(entries), start=1) if is_positive]


CASES = [(40, 30, 1), (40, 30, 5), (40, 30, 30), (7, 100, 12), (25, 61, 3)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("queries", "items", "most"), CASES)
def test_ranks_are_those_of_sorting_the_whole_gallery(
    queries: int, items: int, most: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, gallery = whole_numbers(queries, seed), whole_numbers(items, seed + 100)
    relevant = relation(queries, items, most, seed)
    expected = [slow_ranks(query, gallery, own) for query, own in zip(vectors, relevant, strict=True)]
    assert [ranks.tolist() for ranks in relevant_ranks(vectors, gallery, relevant)] == expected
    for block_queries, block_items, few in ((3, 7, 0.0), (16, 9, 1.0), (1, 8, 0.3)):
        monkeypatch.setattr(ranking, "_BLOCK_QUERIES", block_queries)
        monkeypatch.setattr(ranking, "_BLOCK_ITEMS", block_items)
        monkeypatch.setattr(ranking, "_FEW", few)
        assert [ranks.tolist() for ranks in relevant_ranks(vectors, gallery, relevant)] == expected


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("queries", "items", "most"), CASES)
def test_scores_agree_with_torchmetrics_and_scikit_learn(queries: int, items: int, most: int, seed: int) -> None:
    vectors, gallery = whole_numbers(queries, seed), whole_numbers(items, seed + 100)
    relevant = relation(queries, items, most, seed)
    is_relevant = np.zeros((queries, items), dtype=bool)
    for row, own in enumerate(relevant):
        is_relevant[row, own] = True
    # Products are whole: half of one puts a positive behind what ties with it, and an order among positives changes
    # nothing. The others have no rule for ties, and torchmetrics leaves out what is not above zero.
    products = (vectors @ gallery.T).astype(np.float64) - is_relevant * (0.5 + np.arange(items) / (4 * items)) + 100
    ranks = relevant_ranks(vectors, gallery, relevant)
    pairs = [*zip(torch.from_numpy(products), torch.from_numpy(is_relevant), strict=True)]
    for k in (1, 5, 10, 16):
        theirs = [float(retrieval_hit_rate(preds, target, top_k=k)) for preds, target in pairs]
        assert hits_at_k(ranks, k).tolist() == theirs
    reciprocal = [float(retrieval_reciprocal_rank(preds, target)) for preds, target in pairs]
    assert [own[0] for own in ranks] == [round(1 / value) for value in reciprocal]
    precisions = average_precision_at_k(ranks, items)
    assert float(precisions.mean()) == pytest.approx(
        label_ranking_average_precision_score(is_relevant, products), abs=1e-9
    )
    theirs = [float(retrieval_average_precision(preds, target)) for preds, target in pairs]
    assert precisions == pytest.approx(theirs, abs=1e-6)  # they compute it in float32


@pytest.mark.parametrize("seed", range(3))
def test_all_scores_agree_with_a_slow_oracle(seed: int) -> None:
    vectors, gallery = whole_numbers(50, seed), whole_numbers(45, seed + 100)
    relevant = relation(50, 45, 20, seed)
    all_ranks = [slow_ranks(query, gallery, own) for query, own in zip(vectors, relevant, strict=True)]
    scores = score_relevant(vectors, gallery, relevant, num_resamples=0)
    for k in (1, 5, 10):
        assert scores.recall[k] == pytest.approx(np.mean([min(ranks) <= k for ranks in all_ranks]), abs=1e-9)
    for k, measured in ((10, scores.map10), (16, scores.map16)):
        precisions = [
            sum(sum(other <= rank for other in ranks) / rank for rank in ranks if rank <= k) / min(len(ranks), k)
            for ranks in all_ranks
        ]
        assert measured == pytest.approx(np.mean(precisions), abs=1e-9)


def test_a_single_positive_that_ties_has_the_last_rank_of_the_tie_as_in_scikit_learn() -> None:
    vectors, gallery = whole_numbers(60, 1), whole_numbers(40, 2)
    relevant = relation(60, 40, 1, 3)
    is_relevant = np.zeros((60, 40), dtype=bool)
    is_relevant[np.arange(60), [own[0] for own in relevant]] = True
    ranks = relevant_ranks(vectors, gallery, relevant)
    expected = label_ranking_average_precision_score(is_relevant, vectors @ gallery.T)
    assert np.mean([1 / own[0] for own in ranks]) == pytest.approx(expected, abs=1e-9)


def test_five_captions_of_a_clip_are_divided_by_five() -> None:
    ranks = [np.array([1, 3, 4, 20, 30])]
    assert average_precision_at_k(ranks, 10) == pytest.approx([(1 / 1 + 2 / 3 + 3 / 4) / 5])
    assert average_precision_at_k([np.arange(2, 22)], 16) == pytest.approx(
        [sum(i / (i + 1) for i in range(1, 16)) / 16]
    )


def test_copies_of_a_positive_are_before_it_in_every_dimension() -> None:
    for dim in (8, 512, 2048):
        vectors = np.random.default_rng(dim).normal(size=(40, dim)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        gallery = np.concatenate([vectors, vectors, vectors])
        assert [ranks[0] for ranks in relevant_ranks(vectors, gallery, [[n] for n in range(40)])] == [3] * 40


def test_what_cannot_be_ranked_is_named() -> None:
    vectors = whole_numbers(4, 1)
    broken = vectors.copy()
    broken[[1, 3], 0] = (np.nan, np.inf)
    assert not_finite(broken) == [1, 3]
    with pytest.raises(ValueError, match="not finite: gallery item 1, 3"):
        relevant_ranks(vectors, broken, [[0]] * 4)
    with pytest.raises(ValueError, match="none of the 4 items"):
        relevant_ranks(vectors, vectors, [[0], [1], [2], [4]])
    with pytest.raises(ValueError, match="none of the 4 items"):
        relevant_ranks(vectors, vectors, [[0], [1], [2], [-1]])
    with pytest.raises(ValueError, match="another length than queries"):
        relevant_ranks(vectors, vectors, [[0]])
    with pytest.raises(ValueError, match="no item of the gallery is a positive of group 7"):
        positive_ranks(vectors, vectors, [0, 1, 2, 7], [0, 1, 2, 3])

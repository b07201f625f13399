"""Fast scores against slow obvious ones, chance levels against counting, intervals against their meaning."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from clara_search.metrics import retrieval as metrics
from clara_search.metrics.accuracy import accuracy
from clara_search.metrics.intervals import wilson_interval
from clara_search.metrics.ranking import relevant_ranks


def unit(rows, seed=0, dim=16):
    vectors = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def slow_ranks(query, gallery, label, labels):
    """Sort the whole gallery; of equal similarities the wrong item comes first."""
    order = sorted(range(len(gallery)), key=lambda i: (-round(float(query @ gallery[i]), 5), labels[i] == label))
    return [rank for rank, i in enumerate(order, start=1) if labels[i] == label]


def slow_scores(queries, gallery, query_labels, labels, k):
    recalls, precisions = [], []
    for query, label in zip(queries, query_labels, strict=True):
        ranks = slow_ranks(query, gallery, label, labels)
        recalls.append(any(rank <= k for rank in ranks))
        hit_ranks = [rank for rank in ranks if rank <= k]
        precisions.append(sum((i + 1) / rank for i, rank in enumerate(hit_ranks)) / min(len(ranks), k))
    return np.mean(recalls), np.mean(precisions)


@pytest.mark.parametrize("owned", [False, True])
def test_what_is_alike_is_looked_for_among_what_others_own(owned):
    vectors, groups = unit(60, seed=3), np.arange(60) % 25
    owners = np.arange(60) % 4 if owned else np.arange(60)
    recalls, precisions, sizes = [], [], []
    for i in range(60):
        others = [j for j in range(60) if owners[j] != owners[i]]
        if any(groups[j] == groups[i] for j in others):
            recall, precision = slow_scores(vectors[[i]], vectors[others], groups[[i]], groups[others], 10)
            recalls.append(recall)
            precisions.append(precision)
            sizes.append(len(others))
    scores = metrics.self_retrieval(vectors, groups, owners if owned else None, num_resamples=0)
    assert scores.n_queries == len(recalls)
    assert scores.recall[10] == pytest.approx(np.mean(recalls))
    assert scores.map10 == pytest.approx(np.mean(precisions))
    assert scores.n_gallery == round(np.mean(sizes))


def test_nothing_alike_is_an_error():
    with pytest.raises(ValueError, match="no vector has another"):
        metrics.self_retrieval(unit(3), [0, 1, 2])


@pytest.mark.parametrize("n_groups", [60, 25, 7])
def test_retrieval_agrees_with_sorting_the_whole_gallery(n_groups):
    queries, gallery = unit(300, seed=1), unit(80, seed=2)
    labels = np.arange(80) % n_groups
    query_labels = np.arange(300) % n_groups
    scores = metrics.score_retrieval(queries, gallery, query_labels, labels, num_resamples=0)
    for k in (1, 5, 10):
        recall, precision = slow_scores(queries, gallery, query_labels, labels, k)
        assert scores.recall[k] == pytest.approx(recall)
    assert scores.map10 == pytest.approx(precision)
    best = [slow_ranks(q, gallery, label, labels)[0] for q, label in zip(queries, query_labels, strict=True)]
    assert scores.median_rank == np.median(best)


def test_perfect_embeddings_score_one():
    vectors = unit(50)
    scores = metrics.score_retrieval(vectors, vectors, np.arange(50), np.arange(50))
    assert scores.recall == {1: 1.0, 5: 1.0, 10: 1.0}
    assert scores.map10 == scores.median_rank == 1.0
    assert scores.recall_interval[1] == (1.0, 1.0)


def test_a_collapsed_encoder_scores_zero_because_ties_count_against_it():
    vectors = np.tile(unit(1), (40, 1))
    scores = metrics.score_retrieval(vectors, vectors, np.arange(40), np.arange(40))
    assert scores.recall[10] == 0.0
    assert scores.median_rank == 40


def test_group_labels_may_be_texts():
    vectors = unit(3)
    scores = metrics.score_retrieval(vectors, vectors, ["rain", "dog", "rain"], ["rain", "dog", "rain"])
    assert scores.recall[1] == 1.0
    assert scores.map10 < 1.0 or scores.map10 == 1.0


def test_chance_is_the_mean_over_every_order():
    n, m, k = 6, 2, 3
    hits, precisions = [], []
    for order in permutations(range(n)):
        ranks = np.sort(np.array([order[i] + 1 for i in range(m)]))
        hits.append(metrics.hits_at_k([ranks], k)[0])
        precisions.append(metrics.average_precision_at_k([ranks], k)[0])
    assert metrics.chance_recall(m, n, k) == pytest.approx(np.mean(hits))
    assert metrics.chance_map(m, n, k) == pytest.approx(np.mean(precisions))


def test_chance_at_known_values():
    assert metrics.chance_recall(1, 500, 10) == pytest.approx(0.02)
    assert metrics.chance_recall(1, 5, 10) == 1.0
    assert metrics.chance_map(1, 1, 10) == 1.0


def test_random_embeddings_score_about_chance():
    scores = metrics.score_retrieval(unit(2000, seed=3), unit(100, seed=4), np.arange(2000) % 50, np.arange(100) % 50)
    assert scores.recall[10] == pytest.approx(scores.chance_recall[10], abs=0.04)
    assert scores.map10 == pytest.approx(scores.chance_map10, abs=0.02)


def test_intervals_hold_the_score_and_are_reproducible():
    arguments = (unit(200, seed=5), unit(100, seed=6), np.arange(200) % 20, np.arange(100) % 20)
    scores = metrics.score_retrieval(*arguments, seed=7)
    low, high = scores.recall_interval[5]
    assert low < scores.recall[5] < high
    assert scores == metrics.score_retrieval(*arguments, seed=7)
    # The normal approximation of a proportion: 1.96 standard errors each side.
    half = 1.96 * np.sqrt(scores.recall[5] * (1 - scores.recall[5]) / 200)
    assert (high - low) / 2 == pytest.approx(half, rel=0.15)


def test_scores_become_json():
    scores = metrics.score_retrieval(unit(10), unit(10), np.arange(10), np.arange(10)).as_dict()
    assert scores["recall"]["1"] == 1.0
    assert scores["n_gallery"] == 10


def test_wrong_shapes_and_missing_positives_are_named():
    vectors = unit(3)
    with pytest.raises(ValueError, match="another length"):
        metrics.score_retrieval(vectors, vectors, [0, 1], [0, 1, 2])
    with pytest.raises(ValueError, match="no item of the gallery is a positive"):
        metrics.score_retrieval(vectors, vectors, [0, 1, 9], [0, 1, 2])
    with pytest.raises(ValueError, match="not finite"):
        metrics.score_retrieval(vectors * np.nan, vectors, [0, 1, 2], [0, 1, 2])
    with pytest.raises(ValueError, match="no queries"):
        metrics.score_retrieval(vectors[:0], vectors, [], [0, 1, 2])


def test_accuracy_with_wilson_interval():
    scores = accuracy(["a"] * 8 + ["b"] * 2, ["a"] * 10, n_classes=4)
    assert scores.accuracy == 0.8
    assert scores.chance == 0.25
    assert scores.interval == pytest.approx((0.4902, 0.9433), abs=1e-4)  # the textbook's 8 of 10
    assert wilson_interval(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    with pytest.raises(ValueError, match="no labels"):
        accuracy([], [], n_classes=2)


def test_relevance_is_a_relation_between_queries_and_gallery():
    clips = np.eye(30, 40, dtype=np.float32)
    captions = np.repeat(clips, 5, axis=0)
    to_audio = metrics.score_relevant(captions, clips, [[number // 5] for number in range(150)])
    assert (to_audio.recall[1], to_audio.n_queries, to_audio.median_rank) == (1.0, 150, 1.0)
    to_text = metrics.score_relevant(clips, captions, [range(5 * n, 5 * n + 5) for n in range(30)])
    assert (to_text.recall[1], to_text.map10) == (1.0, 1.0)
    shared = metrics.score_relevant(clips[:1], clips, [[0, 7]], num_resamples=0)
    ranks = relevant_ranks(clips[:1], clips, [[0, 7]])
    assert (shared.recall[1], ranks[0].tolist()) == (1.0, [1, 30])
    with pytest.raises(ValueError, match="no positive"):
        metrics.score_relevant(clips[:1], clips, [[]])

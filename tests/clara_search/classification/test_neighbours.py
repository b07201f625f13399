"""Votes of the nearest labelled rows: weights, rows of the own recording, several labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clara_search.audio.windows import Window
from clara_search.classification.base import Recorded
from clara_search.classification.head import Head, HeadConfig
from clara_search.classification.neighbours import Examples, NeighbourClassifier
from clara_search.errors import EncoderMismatch, QueryError

WINDOW = Window(0.0, 1.0)
ANGLES = np.radians([0, 10, 20, 90, 100])
VECTORS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1).astype(np.float32)


def examples(labels):
    return Examples(VECTORS, labels, ["/x.wav", "/x.wav", "/y.wav", "/z.wav", "/w.wav"], list("abcde"))


def test_nearer_rows_have_more_weight_and_shares_are_probabilities():
    classifier = NeighbourClassifier(examples([("b",), ("a",), ("b",), ("c",), ("c",)]), k=3)
    assert classifier.labels == ("a", "b", "c")
    (scores,) = classifier.score(VECTORS[:1], [""])
    weights = np.exp(np.cos(ANGLES[:3]) / 0.07)
    expected = [weights[1] / weights.sum(), (weights[0] + weights[2]) / weights.sum(), 0.0]
    assert scores == pytest.approx(expected, abs=1e-5)
    every = NeighbourClassifier(examples([("b",), ("a",), ("b",), ("c",), ("c",)]), k=50)
    assert every.score(VECTORS, [""] * 5).sum(axis=1) == pytest.approx([1.0] * 5, abs=1e-5)


def test_votes_are_those_of_a_head_of_neighbours():
    config = HeadConfig("knn", "audio", {"t": ("a", "b", "c")}, 2, num_examples=5)
    head = Head(config).eval()
    head.parts[0].vectors = torch.from_numpy(VECTORS)
    head.parts[0].targets_0 = torch.eye(3)[[1, 0, 1, 2, 2]]
    head.parts[0].count = torch.tensor(3)
    queries = np.array([[1.0, 0.1], [0.6, 0.8], [-0.2, 1.0]], dtype=np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    classifier = NeighbourClassifier(examples([("b",), ("a",), ("b",), ("c",), ("c",)]), k=3)
    assert classifier.score(queries, [""] * 3) == pytest.approx(head.probabilities(queries)["t"], abs=2e-5)


def test_a_labelled_row_is_classified_by_other_recordings():
    classifier = NeighbourClassifier(examples([("b",), ("a",), ("d",), ("c",), ("c",)]), k=1)
    rows = [
        Recorded("/x.wav", WINDOW, id="a"),
        Recorded("/x.wav", WINDOW, id="new"),
        Recorded("/w.wav", WINDOW, id="e"),
    ]
    items = classifier.predict_all(rows, VECTORS[[0, 0, 4]])
    assert [item.label for item in items] == ["d", "b", "c"]
    alone = NeighbourClassifier(Examples(VECTORS[:2], [("b",), ("a",)], ["/x.wav"] * 2, ["a", "b"]))
    (item,) = alone.predict_all(rows[:1], VECTORS[:1])
    assert item.label is None
    assert np.isnan(item.score)


def test_several_labels_are_those_that_half_of_the_votes_have():
    labels = [("dog", "rain"), ("rain",), (), ("car",), ("car", "rain")]
    classifier = NeighbourClassifier(examples(labels), k=2, is_multi_label=True)
    first, last = classifier.predict_all([Recorded("", WINDOW)] * 2, VECTORS[[0, 4]])
    weights = np.exp(np.cos(ANGLES[:2]) / 0.07)
    assert first.scores == {
        "car": 0.0,
        "dog": pytest.approx(weights[0] / weights.sum(), abs=1e-5),
        "rain": pytest.approx(1.0, abs=1e-5),
    }
    assert (first.labels, first.label) == (("rain", "dog"), "rain")
    assert last.labels == ("car", "rain")
    assert classifier.with_threshold(0.9).predict("", WINDOW, VECTORS[0]).labels == ("rain",)


def test_examples_that_do_not_fit_are_refused():
    labels = [("a",), ("b",), (), ("a",), ("a", "b")]
    with pytest.raises(QueryError, match="several labels or none"):
        NeighbourClassifier(examples(labels))
    with pytest.raises(QueryError, match="at least 1"):
        NeighbourClassifier(examples(labels), k=0, is_multi_label=True)
    with pytest.raises(EncoderMismatch, match="2 numbers, the vectors 3"):
        NeighbourClassifier(examples(labels), is_multi_label=True).score(np.eye(3, dtype=np.float32), [""] * 3)

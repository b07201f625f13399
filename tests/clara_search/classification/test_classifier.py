"""Classifiers: labels by cosine or by probability, thresholds, and classifiers of other packages."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clara_search.audio.windows import Window
from clara_search.classification.base import Classifier, Recorded
from clara_search.classification.classifier import HeadClassifier, ZeroShotClassifier, classify_file
from clara_search.classification.head import Head, HeadConfig
from clara_search.errors import ConfigError, EncoderMismatch, QueryError
from clara_search.models.recorded import RecordedModel
from clara_search.retrieval.index import Index
from tests.clara_search.audio.decode.files import contained, melody
from tests.helpers import DIM, ToneEncoder
from tests.tables import table_of, unit_vectors

WINDOW = Window(0.5, 1.5)
CLASSES = np.eye(3, DIM, dtype=np.float32)
VECTOR = (np.array([0.6, 0.8, 0.0, *[0.0] * (DIM - 3)])).astype(np.float32)


def test_a_zero_shot_classifier_scores_by_cosine():
    prediction = ZeroShotClassifier(["a", "b", "c"], CLASSES).predict("x.wav", WINDOW, VECTOR)
    assert prediction.as_dict() == {
        "uri": "x.wav",
        "start_s": 0.5,
        "end_s": 1.5,
        "label": "b",
        "score": 0.8,
        "scores": {"a": 0.6, "b": 0.8, "c": 0.0},
    }


def test_of_equal_scores_the_first_label_wins():
    classes = np.repeat(CLASSES[:1], 2, axis=0)
    assert ZeroShotClassifier(["z", "a"], classes).predict("x.wav", WINDOW, VECTOR).label == "z"


def test_a_temperature_gives_probabilities_and_a_threshold_withholds_labels():
    classifier = ZeroShotClassifier(["a", "b", "c"], CLASSES, temperature=0.2)
    scores = classifier.predict("x.wav", WINDOW, VECTOR).scores
    expected = np.exp([3.0, 4.0, 0.0]) / np.exp([3.0, 4.0, 0.0]).sum()
    assert list(scores.values()) == pytest.approx(expected, abs=1e-6)
    unsure = classifier.with_threshold(0.75).predict("x.wav", WINDOW, VECTOR)
    assert (unsure.label, unsure.scores) == (None, scores)
    assert classifier.with_threshold(0.7).predict("x.wav", WINDOW, VECTOR).label == "b"
    with pytest.raises(QueryError, match="cosines are no probabilities"):
        ZeroShotClassifier(["a", "b", "c"], CLASSES).with_threshold(0.5)


def test_windows_of_a_film_are_classified_at_the_times_that_a_player_shows(tmp_path, encoder):
    film = tmp_path / "film.mkv"
    film.write_bytes(contained(melody(3.0, 16_000), "matroska", "flac", 16_000, offset_s=7.0))
    classifier = ZeroShotClassifier(["a", "b", "c"], CLASSES)
    windows = [(one.start_s, one.end_s) for one in classify_file(film, encoder, classifier, 2.0, 1.0)]
    np.testing.assert_allclose(windows, [(7.0, 9.0), (8.0, 10.0)], atol=0.02)


def head(inputs="audio", fingerprint="", dim=DIM):
    model = RecordedModel("tone", fingerprint)
    config = HeadConfig("linear", inputs, {"size": ("small", "big"), "mood": ("sad",)}, dim, model)
    return Head(config).eval()


def test_a_head_classifier_gives_the_probabilities_of_its_task(encoder):
    model = head()
    classifier = HeadClassifier(model, encoder)
    assert (classifier.task, classifier.labels, classifier.has_probabilities) == ("size", ("small", "big"), True)
    probabilities = model.probabilities(VECTOR[None])["size"][0]
    prediction = classifier.predict("x.wav", WINDOW, VECTOR)
    assert list(prediction.scores.values()) == pytest.approx(probabilities, abs=1e-6)
    assert HeadClassifier(model, encoder, "mood").labels == ("sad",)
    sharper = HeadClassifier(model, encoder, temperature=0.5).predict("x.wav", WINDOW, VECTOR)
    squared = probabilities**2 / (probabilities**2).sum()
    assert list(sharper.scores.values()) == pytest.approx(squared, abs=1e-6)
    threshold = classifier.with_threshold(1.0)
    assert (threshold.task, threshold.predict("x.wav", WINDOW, VECTOR).label) == ("size", None)


def test_a_head_that_needs_transcripts_says_so(encoder):
    classifier = HeadClassifier(head("both"), encoder)
    assert classifier.needs_text
    assert classifier.predict("x.wav", WINDOW, VECTOR, "some words").label in ("small", "big")
    with pytest.raises(QueryError, match=r"x\.wav: the head needs the transcript"):
        classifier.predict("x.wav", WINDOW, VECTOR, " ")


def test_a_head_of_another_encoder_and_a_missing_task_are_refused():
    with pytest.raises(EncoderMismatch, match="gives other vectors"):
        HeadClassifier(head(fingerprint=ToneEncoder("2").fingerprint), ToneEncoder())
    with pytest.raises(EncoderMismatch, match="vectors of 8 numbers"):
        HeadClassifier(head(dim=8), ToneEncoder())
    with pytest.raises(ConfigError, match="no task 'colour'; it has size, mood"):
        HeadClassifier(head(), ToneEncoder(), "colour")


class Halves(Classifier):
    """A classifier of another package: the sign of the first number."""

    labels = ("minus", "plus")
    min_probability = 0.0

    def score(self, vectors, texts):
        return np.stack([vectors[:, 0] < 0, vectors[:, 0] >= 0], axis=1).astype(np.float32)


def test_an_index_is_classified_with_a_classifier_of_another_package(database):
    vectors = unit_vectors(30)
    prediction = list(Index(table_of(database, vectors)).classify_with(Halves()))
    assert [item.label for item in prediction] == ["plus" if vector[0] >= 0 else "minus" for vector in vectors]


def test_the_best_cosine_has_a_label_however_low_it_is():
    prediction = ZeroShotClassifier(["a", "b"], CLASSES[:2]).predict("x.wav", WINDOW, -VECTOR)
    assert (prediction.label, prediction.score) == ("a", -0.6)


def test_of_many_labels_the_best_has_a_label_however_equal_their_probabilities_are():
    generator = np.random.default_rng(0)
    classes = generator.normal(size=(1000, DIM))
    classes = (classes / np.linalg.norm(classes, axis=1, keepdims=True)).astype(np.float32)
    labels = [f"{{label}}, {number}" for number in range(1000)]
    for temperature in (None, 0.01, 30.0):
        prediction = ZeroShotClassifier(labels, classes, temperature).predict("x.wav", WINDOW, VECTOR)
        assert prediction.label == labels[int((classes @ VECTOR).argmax())]


def test_a_vector_that_is_not_finite_has_no_label():
    classifier = ZeroShotClassifier(["a", "b", "c"], CLASSES)
    broken, whole = classifier.predict_all([Recorded("x.wav", WINDOW)] * 2, np.stack([VECTOR * np.nan, VECTOR]))
    assert (broken.label, whole.label) == (None, "b")
    assert np.isnan(broken.score)


def test_several_labels_need_independent_probabilities():
    def match(cosines):
        return np.clip(cosines, 0, 1)

    several = ZeroShotClassifier(["a", "b", "c"], CLASSES, match=match, is_multi_label=True)
    prediction = several.predict("x.wav", WINDOW, VECTOR)
    assert (prediction.labels, prediction.label, prediction.probability) == (("b", "a"), "b", 0.8)
    assert several.with_threshold(0.9).predict("x.wav", WINDOW, VECTOR).as_dict()["labels"] == ()
    one = ZeroShotClassifier(["a", "b", "c"], CLASSES, match=match).with_threshold(0.9)
    unsure = one.predict("x.wav", WINDOW, VECTOR)
    assert (unsure.label, unsure.score, unsure.probability, unsure.labels) == (None, 0.8, 0.8, None)
    with pytest.raises(QueryError, match="independent"):
        ZeroShotClassifier(["a"], CLASSES[:1], is_multi_label=True)
    for threshold in (1.5, -0.1, float("nan")):
        with pytest.raises(QueryError, match="from 0 to 1"):
            one.with_threshold(threshold)


def test_a_head_of_several_labels_gives_those_above_a_half(encoder):
    config = HeadConfig("linear", "audio", {"t": ("a", "b", "c")}, DIM, RecordedModel("tone", ""), multi_label=True)
    model = Head(config).eval()
    with torch.no_grad():
        model.parts[0].outputs[0].weight.zero_()
        model.parts[0].outputs[0].bias.copy_(torch.tensor([1.0, -1.0, 2.0]))
    prediction = HeadClassifier(model, encoder).predict("x.wav", WINDOW, VECTOR)
    assert prediction.labels == ("c", "a")
    assert prediction.scores == {"a": 0.731059, "b": 0.268941, "c": 0.880797}

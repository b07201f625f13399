import numpy as np
import pytest

from clara_search.classification.calibration import calibrate, calibration_error, fit_temperature, softmax
from clara_search.metrics.classification import (
    confusion_matrix,
    score_multi_label,
    score_single_label,
    single_label_metrics,
    weighted_average_precision,
)


def slow(expected, predicted, n_classes):
    """The measures as textbooks have them, class by class."""
    recalls, f1s, sizes = [], [], []
    for c in range(n_classes):
        hit = sum(e == c and p == c for e, p in zip(expected, predicted, strict=True))
        is_c, named_c = sum(e == c for e in expected), sum(p == c for p in predicted)
        if is_c:
            recalls.append(hit / is_c)
        if is_c or named_c:
            precision, recall = hit / named_c if named_c else 0.0, hit / is_c if is_c else 0.0
            f1s.append(2 * precision * recall / (precision + recall) if hit else 0.0)
            sizes.append(is_c)
    n = len(expected)
    return {
        "accuracy": sum(e == p for e, p in zip(expected, predicted, strict=True)) / n,
        "uar": sum(recalls) / len(recalls),
        "weighted_f1": sum(f * s for f, s in zip(f1s, sizes, strict=True)) / n,
        "macro_f1": sum(f1s) / len(f1s),
    }


def answers(n=400, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    expected = rng.choice(classes, n, p=np.arange(1, classes + 1) / sum(range(1, classes + 1)))
    return expected, np.where(rng.random(n) < 0.6, expected, rng.integers(0, classes, n))


def test_measures_agree_with_the_textbook():
    expected, predicted = answers()
    for n_classes in (5, 7):
        assert single_label_metrics(expected, predicted, n_classes) == pytest.approx(
            slow(expected, predicted, n_classes)
        )
    scores = score_single_label(expected, predicted, 5, majority=4)
    assert {name: score.value for name, score in scores.scores.items()} == pytest.approx(slow(expected, predicted, 5))


def test_meld_s_majority_class_reaches_what_is_published():
    # 1256 of MELD's 2610 test utterances are neutral: 48.1 % accuracy, 31.3 % weighted F1, for knowing nothing.
    counts = (1256, 281, 50, 208, 402, 68, 345)
    expected = np.repeat(np.arange(7), counts)
    scores = score_single_label(expected, expected, 7, majority=0)
    assert scores.majority["accuracy"] == pytest.approx(0.481, abs=5e-4)
    assert scores.majority["weighted_f1"] == pytest.approx(0.313, abs=5e-4)
    assert scores.majority["uar"] == scores.chance["uar"] == pytest.approx(1 / 7)


def test_intervals_are_those_of_drawing_items_again():
    expected, predicted = answers()
    scores = score_single_label(expected, predicted, 5, majority=4, num_resamples=4000)
    rng = np.random.default_rng(1)
    again = [rng.integers(0, len(expected), len(expected)) for _ in range(1000)]
    for name in ("accuracy", "uar", "weighted_f1", "macro_f1"):
        resampled = [single_label_metrics(expected[i], predicted[i], 5)[name] for i in again]
        assert scores.scores[name].interval == pytest.approx(np.percentile(resampled, [2.5, 97.5]), abs=0.01)
    assert scores == score_single_label(expected, predicted, 5, majority=4, num_resamples=4000)


def test_chance_is_what_even_guessing_reaches():
    expected, _ = answers(20000)
    guessed = np.random.default_rng(2).integers(0, 5, len(expected))
    scores = score_single_label(expected, guessed, 5, majority=4, num_resamples=10)
    for name, score in scores.scores.items():
        assert score.value == pytest.approx(scores.chance[name], abs=0.01)


def test_average_precision_at_textbook_values_and_with_ties():
    once = np.ones((1, 4))
    right = np.array([True, False, True, False])
    assert weighted_average_precision(right, np.array([4.0, 3.0, 2.0, 1.0]), once) == pytest.approx((1 + 2 / 3) / 2)
    assert weighted_average_precision(right, np.zeros(4), once) == pytest.approx(0.5)
    twice = np.array([[1.0, 2.0, 1.0, 0.0]])  # as if the second stood there two times
    assert weighted_average_precision(right, np.array([4.0, 3.0, 2.0, 1.0]), twice) == pytest.approx((1 + 2 / 4) / 2)


def test_several_labels_are_scored_by_ranking():
    rng = np.random.default_rng(0)
    expected = rng.random((300, 4)) < [0.5, 0.2, 0.1, 0.0]
    scores = score_multi_label(expected, rng.random((300, 4)))
    assert scores.scores["map"].value == pytest.approx(scores.chance["map"], abs=0.08)
    assert scores.scores["map"].interval[0] < scores.scores["map"].value < scores.scores["map"].interval[1]
    assert score_multi_label(expected, expected * 1.0).scores["map"].value == 1.0
    assert score_multi_label(expected, expected * 1.0).scores["macro_f1"].value == 1.0


def test_nothing_to_score_is_an_error():
    nothing = np.zeros(0, dtype=np.int64)
    with pytest.raises(ValueError, match="at least one"):
        score_single_label(nothing, nothing, 2, 0)
    with pytest.raises(ValueError, match="no item has a label"):
        score_multi_label(np.zeros((2, 2), dtype=bool), np.zeros((2, 2)))


def test_a_confusion_matrix_has_what_it_is_in_rows():
    assert confusion_matrix(np.array([0, 0, 1]), np.array([1, 0, 1]), 2).tolist() == [[1, 1], [0, 1]]


def test_the_temperature_that_made_the_labels_is_found_again():
    rng = np.random.default_rng(0)
    logits = 3.0 * rng.standard_normal((20000, 4))
    labels = np.array([rng.choice(4, p=p) for p in softmax(logits / 2.5)])
    assert fit_temperature(logits, labels) == pytest.approx(2.5, rel=0.05)
    calibration = calibrate(logits, labels)
    assert calibration.log_loss < calibration.uniform_log_loss
    assert calibration.calibration_error < 0.02
    sure = softmax(logits).max(axis=1)
    assert calibration_error(sure, softmax(logits).argmax(axis=1) == labels) > 0.1

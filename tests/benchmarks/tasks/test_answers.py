"""The lists of queries are what they claim to be, and errors are measured right."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.tasks.answers.answering import Answer, measure, read_queries, reliability
from clara_search.retrieval.calibration.trials import background_texts
from clara_search.text.normalize import normalize_text


def test_the_lists_hold_200_queries_each_that_no_table_is_calibrated_with():
    absent, present = read_queries("absent.csv"), read_queries("present.csv")
    texts = [normalize_text(query["query"]) for query in [*absent, *present]]
    assert (len(absent), len(present), len(set(texts))) == (200, 200, 400)
    assert not set(texts) & {normalize_text(text) for text in background_texts()}
    same = [query for query in present if normalize_text(query["query"]) == normalize_text(query["text"])]
    assert len(same) == 20


def test_shares_and_errors_are_those_of_hand_counts():
    present = [Answer([0.9, 0.2], [True, False], True), Answer([0.05, 0.01], [False, True], False)]
    absent = [Answer([0.3, 0.1], [False, False], True), *[Answer([0.02, 0.01], [False, False], False)] * 3]
    measured = measure(present, absent)
    assert measured["answered_present"] == 0.5
    assert measured["answered_right"] == 0.5
    assert measured["answered_absent"] == 0.25
    assert measured["at_probability"]["0.1"] == {"present": 0.5, "absent": 0.25}
    # Bins: five of 0.15 together with one right, and one each of 0.1, 0.2, 0.3 and, right, 0.9.
    assert measured["calibration_error"] == pytest.approx((abs(0.15 - 1) + 0.1 + 0.2 + 0.3 + 0.1) / 12)
    assert measured["calibration_error_best"] == pytest.approx((0.05 + 0.06 + 0.3 + 0.1) / 6)


def test_reliability_counts_hits_by_tenths():
    table = reliability(np.array([0.05, 0.07, 0.95, 1.0]), np.array([False, True, True, True]))
    assert table == [
        {"hits": 2, "probability": pytest.approx(0.06), "right": 0.5},
        {"hits": 2, "probability": pytest.approx(0.975), "right": 1.0},
    ]

"""Times and names in tables."""

from __future__ import annotations

import pytest

from clara_search.retrieval.output.text import format_probability, format_span, format_time, short_name


def test_times_and_names_are_short():
    assert format_time(75.25) == "1:15.3"
    assert format_time(59.96) == "1:00.0"
    assert format_time(3600) == "60:00.0"
    assert format_span(0.0, 9.5) == "0:00.0-0:09.5"
    assert format_span(None, None) == ""
    assert short_name("https://host/a/b.wav?x=1") == "b.wav"
    assert short_name(None) == ""
    assert short_name("/x/what?#1.wav") == "what?#1.wav"
    assert short_name("/x/" + "a" * 40 + ".wav") == "a" * 13 + "…" + "a" * 10 + ".wav"


@pytest.mark.parametrize(
    ("probability", "text"),
    [(None, ""), (0.0, "0 %"), (0.004, "<1 %"), (0.01, "1 %"), (0.456, "46 %"), (0.995, ">99 %"), (1.0, "100 %")],
)
def test_a_probability_is_a_percentage_that_claims_no_certainty(probability, text):
    assert format_probability(probability) == text


def test_a_span_shows_its_best_second():
    assert format_span(55.0, 75.0, 62.34) == "0:55.0-1:15.0 @1:02.3"
    assert format_span(None, None, None) == ""

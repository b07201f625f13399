"""Times and names in tables."""

from __future__ import annotations

from clara_search.retrieval.output.text import format_span, format_time, short_name


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

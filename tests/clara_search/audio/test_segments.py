"""Segments: what a manifest may say, how they are named, and which samples they are."""

import math

import numpy as np
import pytest

from clara_search.audio.segments import crop_segment, format_segment, parse_segment
from clara_search.errors import AudioError

RAMP = np.arange(40, dtype=np.float32)
"""Four seconds at 10 Hz."""


@pytest.mark.parametrize(
    ("start", "end", "parsed", "name", "samples"),
    [
        (None, None, (None, None), "", range(40)),
        ("", math.nan, (None, None), "", range(40)),
        ("1.5", 2, (1.5, 2.0), "#t=1.5,2", range(15, 20)),
        (3, None, (3.0, None), "#t=3,", range(30, 40)),
        (None, "0.5", (None, 0.5), "#t=0,0.5", range(5)),
        (3.5, 99, (3.5, 99.0), "#t=3.5,99", range(35, 40)),
    ],
)
def test_a_segment_is_these_samples(
    start: object, end: object, parsed: tuple[float | None, float | None], name: str, samples: range
) -> None:
    assert parse_segment(start, end) == parsed
    assert format_segment(*parsed) == name
    assert crop_segment(RAMP, 10, *parsed).tolist() == list(samples)


@pytest.mark.parametrize(("start", "end"), [(-1, None), ("soon", None), (None, math.inf), (2, 2), (2, 1), ([1], None)])
def test_what_is_no_segment_is_refused(start: object, end: object) -> None:
    with pytest.raises(ValueError, match=r"not a time in seconds|is not before"):
        parse_segment(start, end)


def test_a_segment_behind_the_end_is_an_error() -> None:
    with pytest.raises(AudioError, match=r"starts at 4 s, but the recording lasts 4\.00 s"):
        crop_segment(RAMP, 10, 4.0, 5.0)

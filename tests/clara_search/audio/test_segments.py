"""Segments: what a manifest may say, how they are named, and which samples they are."""

import io
import math

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from clara_search.audio.decode import load_audio
from clara_search.audio.segments import format_segment, parse_segment
from clara_search.errors import AudioError

RAMP = np.repeat(np.arange(40, dtype=np.float32), 10)
"""Four seconds at 100 Hz, of ten steps a second."""


def cut(start_s: float | None, end_s: float | None) -> npt.NDArray[np.float32]:
    file = io.BytesIO()
    soundfile.write(file, RAMP, 100, "FLOAT", format="WAV")
    return load_audio(file.getvalue(), 100, start_s, end_s)


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
    np.testing.assert_array_equal(cut(*parsed), np.repeat(samples, 10))


@pytest.mark.parametrize(("start", "end"), [(-1, None), ("soon", None), (None, math.inf), (2, 2), (2, 1), ([1], None)])
def test_what_is_no_segment_is_refused(start: object, end: object) -> None:
    with pytest.raises(ValueError, match=r"not a time in seconds|is not before"):
        parse_segment(start, end)


def test_a_segment_behind_the_end_is_an_error() -> None:
    with pytest.raises(AudioError, match=r"starts at 4 s, but the recording lasts 4\.00 s"):
        cut(4.0, 5.0)

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clara_search.audio.windows import MIN_OVERHANG, Window, WindowCutter, crop, window_spans


@settings(deadline=None)
@given(
    duration_s=st.floats(0.01, 200),
    window_s=st.floats(0.1, 30),
    overlap=st.floats(0, 0.9),
)
def test_windows_cover_everything_and_are_equally_long(duration_s: float, window_s: float, overlap: float) -> None:
    hop_s = window_s * (1 - overlap)
    spans = list(window_spans(duration_s, window_s, hop_s))
    assert spans[0].start_s == 0
    assert spans[-1].end_s <= duration_s + 1e-9
    overhang_s = duration_s - spans[-1].end_s
    assert overhang_s < max(1e-9, MIN_OVERHANG * hop_s)
    assert overhang_s < 1e-9 or len(spans) == 1 + round((spans[-1].end_s - window_s) / hop_s)
    for before, after in itertools.pairwise(spans):
        assert before.start_s < after.start_s <= before.end_s + 1e-9
    assert all(end - start == pytest.approx(min(window_s, duration_s)) for start, end in spans)


def test_windows_are_a_hop_apart_and_the_last_ends_at_the_end() -> None:
    assert list(window_spans(23.0, 10.0, 5.0)) == [(0, 10), (5, 15), (10, 20), (13, 23)]
    assert list(window_spans(20.0, 10.0, 5.0)) == [(0, 10), (5, 15), (10, 20)]
    assert list(window_spans(3.0, 10.0, 5.0)) == [(0, 3)]


def test_an_overhang_of_milliseconds_is_no_window() -> None:
    assert list(window_spans(10.008, 10.0, 5.0)) == [(0, 10)]
    assert list(window_spans(15.24, 10.0, 5.0)) == [(0, 10), (5, 15)]
    assert list(window_spans(15.25, 10.0, 5.0)) == [(0, 10), (5, 15), (5.25, 15.25)]


@settings(deadline=None)
@given(
    samples=st.integers(1, 3000),
    window_s=st.floats(0.1, 5),
    overlap=st.floats(0, 0.9),
    sizes=st.lists(st.integers(1, 700), min_size=1, max_size=5),
)
def test_windows_cut_from_a_stream_are_those_cut_from_the_whole(
    samples: int, window_s: float, overlap: float, sizes: list[int]
) -> None:
    rate, hop_s = 100, window_s * (1 - overlap)
    waveform = np.arange(samples, dtype=np.float32)
    cutter, cut, at = WindowCutter(rate, window_s, hop_s), [], 0
    for size in itertools.cycle(sizes):
        if at >= samples:
            break
        cut += cutter.add(waveform[at : at + size])
        at += size
    cut += cutter.finish()
    spans = list(window_spans(samples / rate, window_s, hop_s))
    assert cutter.spans() == spans
    for window, span in zip(cut, spans, strict=True):
        whole = crop(waveform, span, rate)
        assert abs(len(window) - len(whole)) <= 1
        assert abs(window[0] - whole[0]) <= 1


def test_a_cut_holds_the_samples_of_its_window() -> None:
    np.testing.assert_array_equal(crop(np.arange(10, dtype=np.float32), Window(0.2, 0.5), 10), [2, 3, 4])
    assert len(crop(np.arange(10, dtype=np.float32), Window(1.0, 1.0), 10)) == 1

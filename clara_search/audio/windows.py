"""Fixed-length windows over a recording, with start and end in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from clara_search.audio.waveform import Waveform

DEFAULT_WINDOW_S = 10.0
DEFAULT_HOP_S = 5.0
"""How recordings are cut into windows, unless said otherwise."""


class Window(NamedTuple):
    """A stretch of a recording, in seconds from its beginning."""

    start_s: float
    end_s: float


def window_spans(duration_s: float, window_s: float, hop_s: float) -> Iterator[Window]:
    """Yield windows that cover `duration_s` seconds: `window_s` long, `hop_s` apart.

    The last one is moved back so that it ends where the recording ends, and is as long as the others; a recording
    no longer than a window is one window.
    """
    if not (window_s > 0 and 0 < hop_s <= window_s):
        raise ValueError(f"need 0 < hop <= window, got window {window_s} s and hop {hop_s} s")
    if duration_s <= window_s:
        yield Window(0.0, duration_s)
        return
    start_s, count = 0.0, 0
    while start_s + window_s < duration_s:
        yield Window(start_s, start_s + window_s)
        count += 1
        start_s = count * hop_s
    yield Window(duration_s - window_s, duration_s)


def crop(waveform: Waveform, window: Window, sample_rate: int) -> Waveform:
    """Return the samples of `waveform` inside `window`, at least one."""
    start = min(round(window.start_s * sample_rate), len(waveform) - 1)
    return waveform[start : max(round(window.end_s * sample_rate), start + 1)]

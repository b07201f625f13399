"""Fixed-length windows over a recording, with start and end in seconds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from clara_search.audio.waveform import Waveform

DEFAULT_WINDOW_S = 10.0
DEFAULT_HOP_S = 5.0
"""Default length of windows, and distance from one to the next, in seconds."""


class Window(NamedTuple):
    """A span of a recording, in seconds from its start."""

    start_s: float
    end_s: float


def window_spans(duration_s: float, window_s: float, hop_s: float) -> Iterator[Window]:
    """Yield windows that cover a recording.

    The last window is moved back to end with the recording, so that all have the same length. A recording that is no
    longer than a window is one window.

    Args:
        duration_s: Duration of the recording in seconds.
        window_s: Length of a window in seconds.
        hop_s: Distance in seconds from one window to the next, at most `window_s`.

    Raises:
        ValueError: `hop_s` is not above 0 and at most `window_s`.
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


def count_windows(duration_s: float, window_s: float, hop_s: float) -> int:
    """Return the number of `window_spans` without making them: a database may state any duration."""
    if not (duration_s > window_s):
        return 1
    count = math.ceil((duration_s - window_s) / hop_s)
    while count and (count - 1) * hop_s + window_s >= duration_s:  # the quotient is rounded
        count -= 1
    while count * hop_s + window_s < duration_s:
        count += 1
    return count + 1


def crop(waveform: Waveform, window: Window, sample_rate: int) -> Waveform:
    """Return the samples of `waveform`, shape (samples,), at `sample_rate` Hz inside `window`; at least one sample."""
    start = min(round(window.start_s * sample_rate), len(waveform) - 1)
    return waveform[start : max(round(window.end_s * sample_rate), start + 1)]

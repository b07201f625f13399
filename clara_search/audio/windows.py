"""Fixed-length windows over a recording, with start and end in seconds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from clara_search.audio.waveform import Waveform

DEFAULT_WINDOW_S = 10.0
DEFAULT_HOP_S = 5.0
"""Default length of windows, and distance from one to the next, in seconds."""

MIN_OVERHANG = 0.05
"""The least part of a hop that is worth a window of its own: codecs lengthen a clip by some milliseconds."""


class Window(NamedTuple):
    """A span of a recording, in seconds from its start."""

    start_s: float
    end_s: float


def covered_s(duration_s: float, window_s: float, hop_s: float) -> float:
    """Return the duration of a recording without an overhang that is too short for a window of its own.

    Raises:
        ValueError: `hop_s` is not above 0 and at most `window_s`.
    """
    if not (window_s > 0 and 0 < hop_s <= window_s):
        raise ValueError(f"need 0 < hop <= window, got window {window_s} s and hop {hop_s} s")
    if duration_s <= window_s:
        return duration_s
    end_s = window_s + (duration_s - window_s) // hop_s * hop_s
    return end_s if duration_s - end_s < MIN_OVERHANG * hop_s else duration_s


def window_spans(duration_s: float, window_s: float, hop_s: float) -> Iterator[Window]:
    """Yield windows that cover a recording, but for an overhang of less than `MIN_OVERHANG` of a hop.

    The last window is moved back to end with the recording, so that all have the same length. A recording that is no
    longer than a window is one window.

    Args:
        duration_s: Duration of the recording in seconds.
        window_s: Length of a window in seconds.
        hop_s: Distance in seconds from one window to the next, at most `window_s`.

    Raises:
        ValueError: `hop_s` is not above 0 and at most `window_s`.
    """
    duration_s = covered_s(duration_s, window_s, hop_s)
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
    duration_s = covered_s(duration_s, window_s, hop_s)
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


class WindowCutter:
    """Cuts a stream of samples into windows, which are yielded as soon as they are full.

    Args:
        sample_rate: Rate of the samples in Hz.
        window_s: Length of a window in seconds.
        hop_s: Seconds from one window to the next.
    """

    def __init__(self, sample_rate: int, window_s: float, hop_s: float):
        covered_s(0.0, window_s, hop_s)
        self._rate = sample_rate
        self._window_s = window_s
        self._hop_s = hop_s
        self._blocks: list[Waveform] = []
        self._dropped = 0
        self._length = 0
        self._count = 0

    def add(self, block: Waveform) -> Iterator[Waveform]:
        """Yield the windows that `block`, shape (samples,), completes."""
        self._blocks.append(block)
        self._length += len(block)
        while self._length >= (end := round((self._count * self._hop_s + self._window_s) * self._rate)):
            start = round(self._count * self._hop_s * self._rate)
            yield self._slice(start, end)
            self._count += 1
            # The last window may be moved back by nearly a hop.
            self._drop(start)

    def finish(self) -> Iterator[Waveform]:
        """Yield the last window, if a part of it was in no other."""
        for index, span in enumerate(self.spans()):
            if index >= self._count:
                start = min(round(span.start_s * self._rate), self._length - 1)
                yield self._slice(start, max(round(span.end_s * self._rate), start + 1))

    def spans(self) -> list[Window]:
        """Return all windows of the samples so far, in seconds from the first one."""
        return list(window_spans(self._length / self._rate, self._window_s, self._hop_s)) if self._length else []

    def _slice(self, start: int, end: int) -> Waveform:
        """Return samples; a copy of those that lie in joined blocks, which it would keep in memory."""
        is_joined = len(self._blocks) > 1
        if is_joined:
            self._blocks = [np.concatenate(self._blocks)]
        window = self._blocks[0][start - self._dropped : end - self._dropped]
        return window.copy() if is_joined else window

    def _drop(self, start: int) -> None:
        self._blocks[0] = self._blocks[0][start - self._dropped :]
        self._dropped = start

"""Timers: how long each stage of a run worked and waited."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_BINS = 512


class StageTimer:
    """Seconds that a stage worked, and waited for the stages before and after it, over all its threads."""

    def __init__(self) -> None:
        self.worked_s = 0.0
        self.waited_s = 0.0
        self._lock = threading.Lock()
        self._started_at = time.monotonic()
        self._bin_s = 0.25
        self._bins = [0.0] * _BINS

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count the time inside as work."""
        started_at = time.monotonic()
        try:
            yield
        finally:
            ended_at = time.monotonic()
            with self._lock:
                self.worked_s += ended_at - started_at
                self._mark(started_at - self._started_at, ended_at - self._started_at)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as waiting."""
        started_at = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self.waited_s += time.monotonic() - started_at

    def timeline(self) -> tuple[float, list[float]]:
        """Return the length of a bin in seconds, and the seconds worked in each bin since the start."""
        with self._lock:
            return self._bin_s, list(self._bins)

    def _mark(self, began_s: float, ended_s: float) -> None:
        while ended_s >= _BINS * self._bin_s:  # a long run: two bins become one
            pairs = zip(self._bins[::2], self._bins[1::2], strict=True)
            self._bins = [sum(pair) for pair in pairs] + [0.0] * (_BINS // 2)
            self._bin_s *= 2
        first, last = int(began_s / self._bin_s), int(ended_s / self._bin_s)
        for index in range(first, last + 1):
            start_s, end_s = index * self._bin_s, (index + 1) * self._bin_s
            self._bins[index] += min(end_s, ended_s) - max(start_s, began_s)


@dataclass(frozen=True)
class StageTimers:
    """A timer for each stage, in the order of the stream."""

    list: StageTimer = field(default_factory=StageTimer)
    decode: StageTimer = field(default_factory=StageTimer)
    transcribe: StageTimer = field(default_factory=StageTimer)
    encode: StageTimer = field(default_factory=StageTimer)
    write: StageTimer = field(default_factory=StageTimer)

    def items(self) -> dict[str, StageTimer]:
        """Return the timers by the names of their stages, that of transcribing only if it worked."""
        transcribe = {"transcribe": self.transcribe} if self.transcribe.worked_s else {}
        return {"list": self.list, "decode": self.decode, **transcribe, "encode": self.encode, "write": self.write}

    def seconds(self) -> dict[str, dict[str, float]]:
        """Return the seconds that each stage worked and waited."""
        return {
            name: {"worked_s": round(timer.worked_s, 3), "waited_s": round(timer.waited_s, 3)}
            for name, timer in self.items().items()
        }

    def shares(self) -> str:
        """Return on one line how busy each stage was so far."""
        shares = {
            name: timer.worked_s / max(timer.worked_s + timer.waited_s, 1e-9) for name, timer in self.items().items()
        }
        return " ".join(f"{name} {share:.0%}" for name, share in shares.items())

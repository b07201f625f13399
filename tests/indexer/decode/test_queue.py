"""The queue of files that are being decoded: everything is passed on once, however consumer and threads take turns."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import pytest

from clara_search.files.paths import FileStat
from indexer.decode import queue as decoding
from indexer.decode.queue import DecodeQueue
from indexer.decode.read import Loaded, LoadedItem, LoadedWindow
from indexer.runtime.pools import WorkerThreads
from indexer.runtime.timers import StageTimer
from indexer.sources.item import Item


class Counting:
    """Yields numbered windows of a recording as fast as it can."""

    def read(self, items: list[Item], stat: FileStat) -> Iterator[Loaded]:
        for number in range(300):
            yield LoadedWindow(items[0], np.array([number], np.float32))
        yield LoadedItem(items[0], "fresh")


def test_each_window_is_passed_on_once_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_POLL_S", 0.0)
    monkeypatch.setattr(decoding, "_MAX_AHEAD_BYTES", 40)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        workers = WorkerThreads(2, StageTimer(), "decode")
        queue = DecodeQueue(workers, Counting(), 60.0, None)  # type: ignore[arg-type]
        for name in "ab":
            queue.submit([Item("", "audio", name)], FileStat(1, ""))
        passed: dict[str, list[float]] = {"a": [], "b": []}
        while queue:
            for loaded in queue.next():
                numbers = passed[loaded.item.uri]
                numbers.append(float(loaded.waveform[0]) if isinstance(loaded, LoadedWindow) else -1.0)
    finally:
        sys.setswitchinterval(interval)
        workers.close()
    assert passed["a"] == passed["b"] == [*map(float, range(300)), -1.0]


def test_what_was_taken_does_not_grow() -> None:
    entry = decoding._ReadingEntry([Item("", "audio", "a")], FileStat(1, ""), Counting(), decoding._Bytes())  # type: ignore[arg-type]
    taken = entry.take()  # nothing yet
    entry.job.run()
    assert taken == []
    assert len(entry.take()) == 301

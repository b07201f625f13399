"""Files that are being decoded, in order, and what is ready of them: a bounded part of each."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Condition, Lock

from clara_search.files.paths import FileStat
from indexer.decode.processes import DecodeProcesses
from indexer.decode.read import Loaded, LoadedItem, LoadedWindow, bytes_to_read
from indexer.ledger.ledger import file_stamp
from indexer.runtime.pools import AdaptivePool, Job, WorkerThreads
from indexer.sources.item import Item

_MAX_QUEUED_FILES = 256
_MAX_QUEUED_BYTES = 96 * 2**20
"""Of files that wait and of decoded windows: an opus file grows about fiftyfold."""

_MAX_AHEAD_BYTES = 8 * 2**20
"""Of decoded windows of one file: one minute. Its thread waits until they are taken."""

_OVERTAKE_AFTER_S = 1.0
"""A recording that takes longer is overtaken by those behind it."""

_POLL_S = 0.005

_log = logging.getLogger(__name__)


@dataclass
class SettledEntry:
    """Items that need no reading."""

    loaded: list[LoadedItem]
    is_finished = True

    def take(self) -> list[LoadedItem]:
        """Return what is ready."""
        loaded, self.loaded = self.loaded, []
        return loaded

    def close(self) -> None:
        """Do nothing: nobody waits."""


class _Closed(Exception):
    """Nobody takes the windows of a file any more."""


class _Bytes:
    """Bytes of waiting files and of decoded windows."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self.count += count


class _ReadingEntry:
    """Items of one file that a thread reads, and what it has read but nobody took."""

    def __init__(self, items: list[Item], stat: FileStat, readers: DecodeProcesses, queued: _Bytes):
        self.items = items
        self.stat = stat
        self.job = Job(self._read)
        self._readers = readers
        self._queued = queued
        self._ready: list[Loaded] = []
        self._num_bytes = bytes_to_read(items[0], stat)
        queued.add(self._num_bytes)
        self._change = Condition()
        self._is_closed = False
        self._blocked_s = 0.0
        self._blocked_at: float | None = None

    @property
    def is_finished(self) -> bool:
        """Whether everything was read."""
        return self.job.is_finished.is_set()

    def _read(self) -> None:
        with self._change:
            self._count(-self._num_bytes)
        for loaded in self._readers.read(self.items, self.stat):
            with self._change:
                self._ready.append(loaded)
                self._count(loaded.waveform.nbytes if isinstance(loaded, LoadedWindow) else 0)
                if self._num_bytes > _MAX_AHEAD_BYTES:
                    self._blocked_at = time.monotonic()
                    self._change.wait_for(lambda: self._num_bytes == 0 or self._is_closed)
                    self._blocked_s += time.monotonic() - self._blocked_at
                    self._blocked_at = None
                if self._is_closed:
                    raise _Closed

    def take(self) -> list[Loaded]:
        """Return what is ready; the thread goes on."""
        with self._change:
            # Also of an empty list: the thread goes on to fill the one that it has.
            loaded, self._ready = self._ready, []
            if loaded:
                self._count(-self._num_bytes)
                self._change.notify()
        return loaded

    def _count(self, num_bytes: int) -> None:
        self._num_bytes += num_bytes
        self._queued.add(num_bytes)

    def close(self) -> None:
        """Let the thread end."""
        with self._change:
            self._is_closed = True
            self._count(-self._num_bytes)
            self._change.notify()

    def decoding_s(self) -> float:
        """Return the seconds that it was read, without those that its thread waited for the consumer."""
        with self._change:
            waiting_s = 0.0 if self._blocked_at is None else time.monotonic() - self._blocked_at
            return self.job.running_s() - self._blocked_s - waiting_s


class DecodeQueue:
    """Submitted items in order, until the consumer takes them."""

    def __init__(
        self, workers: WorkerThreads, readers: DecodeProcesses, timeout_s: float, adaptive: AdaptivePool | None
    ):
        self._workers = workers
        self._readers = readers
        self._adaptive = adaptive
        self._timeout_s = timeout_s
        self._queue: deque[SettledEntry | _ReadingEntry] = deque()
        self._queued = _Bytes()

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, entry: SettledEntry) -> None:
        """Queue items that need no reading."""
        self._queue.append(entry)

    def submit(self, items: list[Item], stat: FileStat) -> None:
        """Let a thread read `items`."""
        entry = _ReadingEntry(items, stat, self._readers, self._queued)
        self._queue.append(entry)
        self._workers.submit(entry.job)

    def is_full(self) -> bool:
        """Tell whether enough is queued."""
        return len(self._queue) > _MAX_QUEUED_FILES or self._queued.count > _MAX_QUEUED_BYTES

    def close(self) -> None:
        """Let the threads of all entries end."""
        for entry in self._queue:
            entry.close()

    def next(self) -> Sequence[Loaded]:
        """Return what is ready of the first entry; if it is slow, of the first one behind it with anything."""
        while True:
            head = self._queue[0]
            loaded = self._take(0)
            if loaded is not None:
                return loaded
            assert isinstance(head, _ReadingEntry)
            if head.decoding_s() > _OVERTAKE_AFTER_S:
                for index, entry in enumerate(self._queue):
                    loaded = self._take(index)
                    if loaded is not None:
                        return loaded
                    if isinstance(entry, _ReadingEntry) and entry.decoding_s() > self._timeout_s:
                        return self._abandon(entry)
            # Waking up for each recording would cost the decoding threads more than polling costs the encoder.
            started_at = time.monotonic()
            time.sleep(_POLL_S)
            if self._adaptive is not None:
                self._adaptive.add_waiting(time.monotonic() - started_at)

    def _take(self, index: int) -> Sequence[Loaded] | None:
        """Return what is ready of an entry, None if nothing is, and remove it if it is over. Raises its error."""
        entry = self._queue[index]
        is_finished = entry.is_finished  # before the last is taken
        loaded = entry.take()
        if is_finished:
            del self._queue[index]
            if isinstance(entry, _ReadingEntry):
                entry.job.result()
        return loaded if loaded or is_finished else None

    def _abandon(self, entry: _ReadingEntry) -> list[Loaded]:
        _log.warning("abandoned the decoder of %s after %g s", entry.items[0].uri, self._timeout_s)
        self._queue.remove(entry)
        entry.close()
        self._workers.abandon(entry.job)
        self._readers.abandon(entry.job.thread)
        reason = f"not decoded within {self._timeout_s:g} s: allow more time"
        return [LoadedItem(item, "failed", stamp=file_stamp(item, entry.stat), reason=reason) for item in entry.items]

"""Decoding ahead of the encoder, in threads, as far as memory allows."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from threading import Lock

from clara_search.errors import ClaraError
from clara_search.files.network.access import GUARDED, AccessState
from clara_search.files.paths import FileStat, stat_file
from indexer.decode.processes import DecodeBackend, DecodeProcesses
from indexer.decode.read import LoadedItem, failure_reason
from indexer.ledger.ledger import LedgerSnapshot, file_stamp
from indexer.runtime.pools import AdaptivePool, Job, WorkerThreads
from indexer.runtime.timers import StageTimer
from indexer.sources.item import InMemoryWaveform, Item, content_hash

DEFAULT_TIMEOUT_S = 600.0
"""Longer than any file takes to decode, unless its decoder hangs."""

_MAX_QUEUED_FILES = 256
_MAX_QUEUED_BYTES = 256 * 2**20
"""Of files that wait and of decoded waveforms: an opus file grows about fiftyfold."""

_OVERTAKE_AFTER_S = 1.0
"""A recording that takes longer is overtaken by those behind it."""

_POLL_S = 0.005

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DecodeConfig:
    """How recordings are decoded.

    Attributes:
        sample_rate: rate of the waveforms in Hz.
        timeout_s: longest time for one file, in seconds.
        workers: number of threads; 0: as many as the encoder needs.
        backend: whether each thread decodes itself or has a process do it.
        access: hosts and buckets that other machines may reach as this one does.
    """

    sample_rate: int
    timeout_s: float = DEFAULT_TIMEOUT_S
    workers: int = 0
    backend: DecodeBackend = "threads"
    access: AccessState = GUARDED


def prefetch_items(
    items: Iterable[Item], known: LedgerSnapshot, config: DecodeConfig, timer: StageTimer | None = None
) -> Generator[LoadedItem, None, None]:
    """Yield `items` in order, loaded; recordings are decoded in threads ahead of the consumer.

    Consecutive items of one recording decode it once. An unchanged item is not decoded, and its file not even read if
    size and time of modification are the same. A slow recording is overtaken by those behind it, and fails after
    `config.timeout_s`.
    """
    workers = WorkerThreads(config.workers or 1, timer or StageTimer(), "decode")
    readers = DecodeProcesses(known, config.sample_rate, config.backend)
    queue = _DecodeQueue(workers, readers, config.timeout_s, None if config.workers else AdaptivePool(workers))
    try:
        for settled, stat, pending in read_jobs(items, known):
            if settled and not queue and not pending:
                yield from settled
            elif settled:
                queue.add(_SettledEntry(settled))
            if pending and stat is not None:
                queue.submit(pending, stat)
            while queue.is_full():
                yield from queue.next()
        while queue:
            yield from queue.next()
    finally:
        workers.close()
        readers.close()


@dataclass
class _SettledEntry:
    """Items that need no reading."""

    loaded: list[LoadedItem]
    num_bytes: int | None = 0
    is_finished = True

    def result(self) -> list[LoadedItem]:
        return self.loaded


@dataclass
class _ReadingEntry:
    """Items of one file that a thread reads, and the bytes they count for; None once they have left the queue."""

    items: list[Item]
    stat: FileStat
    job: Job[list[LoadedItem]]
    num_bytes: int | None

    @property
    def is_finished(self) -> bool:
        return self.job.is_finished.is_set()

    def result(self) -> list[LoadedItem]:
        return self.job.result()


class _DecodeQueue:
    """Submitted items in order, until the consumer takes them."""

    def __init__(
        self, workers: WorkerThreads, readers: DecodeProcesses, timeout_s: float, adaptive: AdaptivePool | None
    ):
        self._workers = workers
        self._readers = readers
        self._adaptive = adaptive
        self._timeout_s = timeout_s
        self._queue: deque[_SettledEntry | _ReadingEntry] = deque()
        self._num_bytes = 0
        self._counting = Lock()

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, entry: _SettledEntry | _ReadingEntry) -> None:
        self._queue.append(entry)

    def submit(self, items: list[Item], stat: FileStat) -> None:
        """Let a thread read `items`. They count as large as their file and, once read, as their waveforms."""

        def work() -> list[LoadedItem]:
            loaded = self._readers.read(items, stat)
            waveforms = {id(item.waveform): item.waveform.nbytes for item in loaded if item.waveform is not None}
            with self._counting:
                if entry.num_bytes is not None:
                    self._num_bytes += sum(waveforms.values()) - entry.num_bytes
                    entry.num_bytes = sum(waveforms.values())
            return loaded

        entry = _ReadingEntry(items, stat, Job(work), stat.size)
        with self._counting:
            self._num_bytes += stat.size
        self._queue.append(entry)
        self._workers.submit(entry.job)

    def is_full(self) -> bool:
        return len(self._queue) > _MAX_QUEUED_FILES or self._num_bytes > _MAX_QUEUED_BYTES

    def _take(self, index: int) -> _SettledEntry | _ReadingEntry:
        entry = self._queue[index]
        del self._queue[index]
        with self._counting:
            self._num_bytes -= entry.num_bytes or 0
            entry.num_bytes = None
        return entry

    def next(self) -> list[LoadedItem]:
        """Return the first entry once it is finished; if it is slow, the first finished entry behind it."""
        while True:
            head = self._queue[0]
            if head.is_finished:
                return self._take(0).result()
            assert isinstance(head, _ReadingEntry)
            if head.job.running_s() > _OVERTAKE_AFTER_S:
                for index, entry in enumerate(self._queue):
                    if entry.is_finished:
                        return self._take(index).result()
                    if isinstance(entry, _ReadingEntry) and entry.job.running_s() > self._timeout_s:
                        self._take(index)
                        return self._abandon(entry)
            # Waking up for each recording would cost the decoding threads more than polling costs the encoder.
            started_at = time.monotonic()
            time.sleep(_POLL_S)
            if self._adaptive is not None:
                self._adaptive.add_waiting(time.monotonic() - started_at)

    def _abandon(self, entry: _ReadingEntry) -> list[LoadedItem]:
        _log.warning("abandoned the decoder of %s after %g s", entry.items[0].uri, self._timeout_s)
        self._workers.abandon(entry.job)
        self._readers.abandon(entry.job.thread)
        reason = f"not decoded within {self._timeout_s:g} s: allow more time"
        return [LoadedItem(item, "failed", stamp=file_stamp(item, entry.stat), reason=reason) for item in entry.items]


def read_jobs(
    items: Iterable[Item], known: LedgerSnapshot
) -> Iterator[tuple[list[LoadedItem], FileStat | None, list[Item]]]:
    """Yield, for each run of items with one uri, the settled items, the file's stat, and the items to be read."""
    for _, run in groupby(items, key=lambda item: item.uri):
        settled, pending = list[LoadedItem](), list[Item]()
        stat: FileStat | None = None
        for item in run:
            if item.problem is not None:
                settled.append(LoadedItem(item, "failed", reason=item.problem))
            elif item.kind == "text":
                settled.append(_load_text(item, known))
            else:
                try:
                    stat = stat or _stat_item(item)
                except (OSError, ValueError, ClaraError) as error:  # ValueError: a NUL in the name
                    settled.append(LoadedItem(item, "failed", reason=failure_reason(error, item.uri)))
                    continue
                stamp = file_stamp(item, stat)
                if known.is_untouched(item, stamp):
                    settled.append(LoadedItem(item, "unchanged"))
                elif known.would_fail_again(item, stamp):
                    settled.append(LoadedItem(item, "skipped", reason="failed before"))
                else:
                    pending.append(item)
        yield settled, stat, pending


def _stat_item(item: Item) -> FileStat:
    if isinstance(item.content, InMemoryWaveform):
        return FileStat(item.content.size, "")
    stat = item.stat or stat_file(item.file)
    # The recording costs memory and time, not the shard that holds it.
    if item.content is None:
        return stat
    return FileStat(item.content.size, f"{stat.size} {stat.token}" if stat.token else "")


def _load_text(item: Item, known: LedgerSnapshot) -> LoadedItem:
    text_hash = content_hash((item.text or "").encode())
    if known.is_done(item, text_hash):
        return LoadedItem(item, "unchanged")
    return LoadedItem(item, "duplicate" if known.has_content(text_hash) else "fresh", text_hash)

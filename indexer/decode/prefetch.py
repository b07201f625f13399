"""Recordings to waveforms in threads, ahead of the encoder, as far as memory allows."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from threading import Lock

from clara_search.errors import ClaraError
from clara_search.files.paths import FileStat, stat_file
from indexer.decode.processes import DecodeBackend, DecodeProcesses
from indexer.decode.read import LoadedItem, failure_reason
from indexer.ledger.ledger import LedgerSnapshot, file_stamp
from indexer.runtime.pools import AdaptivePool, Job, Workers
from indexer.runtime.timers import StageTimer
from indexer.sources.item import InMemoryWaveform, Item, content_hash

DEFAULT_TIMEOUT_S = 600.0
"""Nothing that is decoded takes this long, but for what hangs."""

_MOST_FILES_AHEAD = 256
_MOST_BYTES_AHEAD = 256 * 2**20
"""Of files that wait and of waveforms that are done: an opus file becomes some fifty times as much."""

_PATIENCE_S = 1.0
"""So long the others wait for a recording whose turn it is."""

_LOOK_AGAIN_S = 0.005


@dataclass(frozen=True)
class DecodeConfig:
    """How recordings are decoded: at which rate (Hz), how long one may take, by how many threads (0: as it takes)."""

    sample_rate: int
    timeout_s: float = DEFAULT_TIMEOUT_S
    threads: int = 0
    place: DecodeBackend = "threads"


def prefetch_items(
    items: Iterable[Item], known: LedgerSnapshot, how: DecodeConfig, clock: StageTimer | None = None
) -> Generator[LoadedItem, None, None]:
    """Yield `items` in order, loaded; recordings are decoded in threads ahead of the one that is asked for.

    Consecutive items of one recording decode it once. What the ledger holds unchanged is not decoded, and not even read
    where its size and time of modification are the same. A recording that takes long is overtaken by those behind it,
    and one that takes longer than `how.timeout_s` fails.
    """
    workers = Workers(how.threads or 1, clock or StageTimer(), "decode")
    readers = DecodeProcesses(known, how.sample_rate, how.place)
    queue = _Ahead(workers, readers, how.timeout_s, None if how.threads else AdaptivePool(workers))
    try:
        for settled, status, wanted in read_jobs(items, known):
            if settled and not queue and not wanted:
                yield from settled
            elif settled:
                queue.add(_Settled(settled))
            if wanted and status is not None:
                queue.read(wanted, status)
            while queue.is_full():
                yield from queue.next()
        while queue:
            yield from queue.next()
    finally:
        workers.close()
        readers.close()


@dataclass
class _Settled:
    """Items that need no reading."""

    loaded: list[LoadedItem]
    bytes: int | None = 0
    is_finished = True

    def result(self) -> list[LoadedItem]:
        return self.loaded


@dataclass
class _Reading:
    """Items of one file that a thread reads, and the `bytes` it is counted with; None once it was handed on."""

    items: list[Item]
    status: FileStat
    job: Job[list[LoadedItem]]
    bytes: int | None

    @property
    def is_finished(self) -> bool:
        return self.job.is_finished.is_set()

    def result(self) -> list[LoadedItem]:
        return self.job.result()


class _Ahead:
    """What was begun and not yet handed on, in order."""

    def __init__(self, workers: Workers, readers: DecodeProcesses, timeout_s: float, crew: AdaptivePool | None):
        self._workers = workers
        self._readers = readers
        self._crew = crew
        self._timeout_s = timeout_s
        self._queue: deque[_Settled | _Reading] = deque()
        self._bytes = 0
        self._counting = Lock()

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, begun: _Settled | _Reading) -> None:
        self._queue.append(begun)

    def read(self, items: list[Item], status: FileStat) -> None:
        """Have a thread read `items`. They count as large as their file, and once they are read, as their waveforms."""

        def work() -> list[LoadedItem]:
            found = self._readers.read(items, status)
            waveforms = {id(one.waveform): one.waveform.nbytes for one in found if one.waveform is not None}
            with self._counting:
                if reading.bytes is not None:
                    self._bytes += sum(waveforms.values()) - reading.bytes
                    reading.bytes = sum(waveforms.values())
            return found

        reading = _Reading(items, status, Job(work), status.size)
        with self._counting:
            self._bytes += status.size
        self._queue.append(reading)
        self._workers.submit(reading.job)

    def is_full(self) -> bool:
        return len(self._queue) > _MOST_FILES_AHEAD or self._bytes > _MOST_BYTES_AHEAD

    def _take(self, place: int) -> _Settled | _Reading:
        one = self._queue[place]
        del self._queue[place]
        with self._counting:
            self._bytes -= one.bytes or 0
            one.bytes = None
        return one

    def next(self) -> list[LoadedItem]:
        """Return the first that is finished: that whose turn it is, unless it lets the others wait."""
        while True:
            head = self._queue[0]
            if head.is_finished:
                return self._take(0).result()
            assert isinstance(head, _Reading)
            if head.job.ran_s() > _PATIENCE_S:
                for place, one in enumerate(self._queue):
                    if one.is_finished:
                        return self._take(place).result()
                    if isinstance(one, _Reading) and one.job.ran_s() > self._timeout_s:
                        self._take(place)
                        self._workers.abandon(one.job)
                        self._readers.leave_behind(one.job.thread)
                        return [self._timed_out(item, one.status) for item in one.items]
            # To be woken by each recording would cost the threads that decode more than this costs the encoder.
            began = time.monotonic()
            time.sleep(_LOOK_AGAIN_S)
            if self._crew is not None:
                self._crew.waited(time.monotonic() - began)

    def _timed_out(self, item: Item, status: FileStat) -> LoadedItem:
        reason = f"not decoded within {self._timeout_s:g} s (--timeout)"
        return LoadedItem(item, "failed", stamp=file_stamp(item, status), reason=reason)


def read_jobs(
    items: Iterable[Item], known: LedgerSnapshot
) -> Iterator[tuple[list[LoadedItem], FileStat | None, list[Item]]]:
    """Yield, for each run of items with one uri, what is settled already, and what has to be read from the file."""
    for _, run in groupby(items, key=lambda item: item.uri):
        settled, wanted = list[LoadedItem](), list[Item]()
        status: FileStat | None = None
        for item in run:
            if item.problem is not None:
                settled.append(LoadedItem(item, "failed", reason=item.problem))
            elif item.kind == "text":
                settled.append(_text(item, known))
            else:
                try:
                    status = status or _status(item)
                except (OSError, ValueError, ClaraError) as error:  # ValueError: a NUL in the name
                    settled.append(LoadedItem(item, "failed", reason=failure_reason(error, item.uri)))
                    continue
                stamp = file_stamp(item, status)
                if known.is_untouched(item, stamp):
                    settled.append(LoadedItem(item, "unchanged"))
                elif known.is_refused(item, stamp):
                    settled.append(LoadedItem(item, "refused", reason="failed before"))
                else:
                    wanted.append(item)
        yield settled, status, wanted


def _status(item: Item) -> FileStat:
    if isinstance(item.content, InMemoryWaveform):
        return FileStat(item.content.size, "")
    status = item.stat or stat_file(item.file)
    # What costs memory and time is the recording, not the shard that holds it.
    if item.content is None:
        return status
    return FileStat(item.content.size, f"{status.size} {status.token}" if status.token else "")


def _text(item: Item, known: LedgerSnapshot) -> LoadedItem:
    hashed = content_hash((item.text or "").encode())
    return LoadedItem(item, "unchanged") if known.is_done(item, hashed) else LoadedItem(item, "fresh", hashed)

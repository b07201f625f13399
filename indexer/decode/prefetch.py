"""Decoding ahead of the encoder, in threads, as far as memory allows."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby

from clara_search.audio.windows import DEFAULT_HOP_S, DEFAULT_WINDOW_S
from clara_search.errors import ClaraError
from clara_search.files.limits import changed_limits
from clara_search.files.network.access import GUARDED, AccessState
from clara_search.files.paths import FileStat, stat_file
from indexer.decode.processes import DecodeBackend, DecodeProcesses
from indexer.decode.queue import DecodeQueue, SettledEntry
from indexer.decode.read import DecodeWindows, Loaded, LoadedItem, failure_reason
from indexer.ledger.ledger import file_stamp
from indexer.ledger.snapshot import LedgerSnapshot
from indexer.runtime.pools import AdaptivePool, WorkerThreads
from indexer.runtime.timers import StageTimer
from indexer.sources.item import InMemoryWaveform, Item, content_hash

DEFAULT_TIMEOUT_S = 600.0
"""Longer than any file takes to decode, unless its decoder hangs."""


@dataclass(frozen=True)
class DecodeConfig:
    """How recordings are decoded.

    Attributes:
        sample_rate: rate of the waveforms in Hz.
        timeout_s: longest time for one file, in seconds.
        workers: number of threads; 0: as many as the encoder needs.
        backend: whether each thread decodes itself or has a process do it.
        access: hosts and buckets that other machines may reach as this one does.
        window_s: length of a window in seconds.
        hop_s: seconds from one window to the next.
        limits: limits that are raised here, for other machines.
    """

    sample_rate: int
    timeout_s: float = DEFAULT_TIMEOUT_S
    workers: int = 0
    backend: DecodeBackend = "threads"
    access: AccessState = GUARDED
    window_s: float = DEFAULT_WINDOW_S
    hop_s: float = DEFAULT_HOP_S
    limits: Mapping[str, int] = field(default_factory=changed_limits)

    @property
    def windows(self) -> DecodeWindows:
        """How recordings are cut."""
        return DecodeWindows(self.sample_rate, self.window_s, self.hop_s)


def prefetch_items(
    items: Iterable[Item], known: LedgerSnapshot, config: DecodeConfig, timer: StageTimer | None = None
) -> Generator[Loaded, None, None]:
    """Yield `items` in order, loaded, each after its windows; recordings are decoded in threads ahead of the consumer.

    Consecutive items of one recording decode it once, and their windows take turns. A thread that is some minutes ahead
    waits, so that memory does not grow with the length of recordings. An unchanged item is not decoded, and its file is
    not read if size and time of modification are the same. A slow recording is overtaken by those behind it, and fails
    after `config.timeout_s`.
    """
    workers = WorkerThreads(config.workers or 1, timer or StageTimer(), "decode")
    readers = DecodeProcesses(known, config.windows, config.backend)
    queue = DecodeQueue(workers, readers, config.timeout_s, None if config.workers else AdaptivePool(workers))
    try:
        for settled, stat, pending in read_jobs(items, known):
            if settled and not queue and not pending:
                yield from settled
            elif settled:
                queue.add(SettledEntry(settled))
            if pending and stat is not None:
                queue.submit(pending, stat)
            while queue.is_full():
                yield from queue.next()
        while queue:
            yield from queue.next()
    finally:
        workers.close()
        queue.close()
        readers.close()


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

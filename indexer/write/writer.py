"""Embedded items to committed rows and ledger entries."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import pyarrow as pa

from clara_search.errors import ClaraError
from clara_search.files.paths import is_missing
from clara_search.store.table import Table
from indexer.embed.batches import EmbeddedItem
from indexer.ledger.entry import LedgerEntry, LedgerRecord, count_texts
from indexer.ledger.ledger import Ledger
from indexer.ledger.reconcile import Orphans
from indexer.runtime.allocator import release_memory
from indexer.runtime.timers import StageTimer
from indexer.sources.columns import ColumnType, value_type, widen
from indexer.sources.item import Item
from indexer.sources.values import convert_value
from indexer.write.compaction import Upkeep
from indexer.write.kept import renamed_rows, with_kept_values
from indexer.write.rows import extent, make_rows
from indexer.write.widening import widen_columns

ItemStatus = Literal["indexed", "unchanged", "failed"]
Progress = Callable[[Item, ItemStatus], None]
"""Called for every item once its outcome is known."""

_COMMIT_ROWS = 512
_MAX_COMMIT_ROWS = 2048
_COMMIT_AFTER_S = 30.0
_COMMIT_SHARE = 0.1
"""Share of the time that commits may take: as a table grows they become slower, and so rarer and larger."""

_COMMITS_BETWEEN_LOOKS = 16
"""So often the state of the tables is looked at while they grow."""

_RELEASE_MEMORY_AFTER_S = 30.0
"""Memory that is returned to the system has to be requested again."""

_log = logging.getLogger(__name__)


class Writer:
    """Gathers embedded items and commits them in a thread of its own: first the rows, then the ledger entries.

    A batch and its entries are committed under one lock, so that the ledger accounts for all rows of the table, whoever
    else writes. A crash between the two is harmless: the next run writes the same rows again.

    Attributes:
        counts: number of items by status.
        audio_s: length of the embedded recordings in seconds.
        removed: number of rows removed.
        reused: number of items with the vectors of another recording.
        noted: number of indexed recordings with a note.
    """

    def __init__(
        self,
        table: Table,
        ledger: Ledger,
        columns: Mapping[str, ColumnType],
        orphans: Orphans | None = None,
        prune: bool = False,
        progress: Progress | None = None,
        upkeep: Upkeep | None = None,
        timer: StageTimer | None = None,
    ):
        self.counts: dict[ItemStatus, int] = {"indexed": 0, "unchanged": 0, "failed": 0}
        self.audio_s = 0.0
        self.removed = 0
        self.reused = 0
        self.noted = 0
        self._table = table
        self._ledger = ledger
        self._columns = columns
        self._orphans = orphans or {}
        self._prune = prune
        self._progress = progress
        self._upkeep = upkeep or Upkeep(table, ledger, time.time())
        self._timer = timer or StageTimer()
        self._settling = threading.Lock()
        self._gathered: list[EmbeddedItem] = []
        self._gathered_rows = 0
        self._commits = 0
        self._committed_at = time.monotonic()
        self._commit_s = 0.0
        self._released_at = time.monotonic()
        self._error: BaseException | None = None
        # One batch is written, one waits, one is gathered: an encoder that is faster than the disk waits for it.
        self._batches: queue.Queue[list[EmbeddedItem] | None] = queue.Queue(1)
        self._thread = threading.Thread(target=self._run, name="write", daemon=True)
        self._thread.start()

    def add(self, embedded: EmbeddedItem) -> None:
        """Add an item, and commit the gathered ones when there are enough. Raises the error of an earlier commit."""
        self._raise()
        if embedded.loaded.state in ("unchanged", "skipped"):
            self._settle(embedded)
            return
        self._gathered.append(embedded)
        self._gathered_rows += max(1, len(embedded.windows))
        waited_s = time.monotonic() - self._committed_at
        is_due = self._gathered_rows >= _COMMIT_ROWS and waited_s * _COMMIT_SHARE >= self._commit_s
        if is_due or self._gathered_rows >= _MAX_COMMIT_ROWS or waited_s >= _COMMIT_AFTER_S:
            self._submit()

    def close(self) -> None:
        """Commit the rest and wait until all is on disk. Raises the error of a commit."""
        if self._gathered and self._error is None:
            self._submit()
        self._batches.put(None)
        self._thread.join()
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _submit(self) -> None:
        batch, self._gathered, self._gathered_rows = self._gathered, [], 0
        self._committed_at = time.monotonic()
        self._batches.put(batch)

    def _run(self) -> None:
        while True:
            with self._timer.waiting():
                batch = self._batches.get()
            if batch is None:
                return
            if self._error is not None:  # the next run embeds the later batches again
                continue
            try:
                with self._timer.working():
                    self._commit(batch)
            except BaseException as error:
                self._error = error

    def _commit(self, batch: Sequence[EmbeddedItem]) -> None:
        started_at = time.monotonic()
        with self._table.connection.commit_lock(self._table.name):
            known = self._ledger.entries(embedded.item for embedded in batch)
            columns = self._columns_of([item for item in batch if _status(item) == "indexed"])
            done = [item for item in batch if _status(item) == "indexed"]  # without those that a column does not fit
            written: list[str] = []
            if done:
                rows = make_rows(done, columns, self._table.info.dim)
                rows = renamed_rows(with_kept_values(rows, done, self._table.schema), self._table.names.store)
                written = rows["id"].to_pylist()
                self._table.upsert(rows)
            moved = [item.loaded.moved_from for item in done if item.loaded.moved_from is not None]
            stale = {id_ for item in batch for id_ in self._stale_ids(item, known.get(item.item.key))}
            stale.update(id_ for entry in moved for id_ in entry.row_ids)
            stale.difference_update(written)
            self.removed += self._table.delete_ids(sorted(stale))
            self._ledger.record([self._record(item, known.get(item.item.key)) for item in batch])
            self._ledger.forget([entry.key for entry in moved if entry.key not in {item.item.key for item in batch}])
        self._commits += 1
        is_compacted = False
        if self._commits % _COMMITS_BETWEEN_LOOKS == 0:
            is_compacted = self._upkeep("during")
        if is_compacted or started_at - self._released_at >= _RELEASE_MEMORY_AFTER_S:
            release_memory()
            self._released_at = started_at
        self._commit_s = time.monotonic() - started_at
        _log.debug("committed %d items to table '%s' in %.2f s", len(batch), self._table.name, self._commit_s)
        for item in batch:
            self._settle(item)

    def _columns_of(self, done: Sequence[EmbeddedItem]) -> Mapping[str, ColumnType]:
        """Return the types of all further columns of `done`, for which the table is made wide enough.

        Items whose values fit no type that a column can have fail.
        """
        columns = dict(self._columns)
        new = dict[str, ColumnType]()
        for item in done:
            for name, value in item.item.columns.items():
                if name not in self._columns:
                    widen(new, name, value_type(value))
        if new:  # of a source that was not surveyed
            self._columns = columns | widen_columns(self._table, new)
        for item in done:
            for name, value in item.item.columns.items():
                try:
                    convert_value(value, self._columns.get(name, pa.string()))
                except (ValueError, OverflowError) as error:
                    item.reason = f"column '{name}': {error}"
        return self._columns

    def _settle(self, embedded: EmbeddedItem) -> None:
        status = _status(embedded)
        with self._settling:
            self.counts[status] += 1
            start_s, end_s = extent(embedded.windows)
            self.noted += status == "indexed" and bool(embedded.loaded.notes)
            if status == "indexed" and embedded.loaded.is_reused:
                self.reused += 1
            elif status == "indexed" and start_s is not None and end_s is not None:
                self.audio_s += end_s - start_s
            if status == "failed":
                _log.info("skipped %s: %s", embedded.item.uri, embedded.reason)
            if self._progress is not None:
                self._progress(embedded.item, status)

    def _stale_ids(self, embedded: EmbeddedItem, entry: LedgerEntry | None) -> Sequence[str]:
        """Return the ids of the rows that the item has no longer."""
        if self._keeps_rows(embedded):
            return []
        # Once per uri: by the next time another segment of the recording may have written some of them again.
        orphans = self._orphans.pop(embedded.item.uri, [])
        return [*(entry.row_ids if entry is not None else ()), *orphans]

    def _keeps_rows(self, embedded: EmbeddedItem) -> bool:
        """Tell whether the item's rows stay: its content is the same, or out of reach for now."""
        if embedded.loaded.state == "touched":
            return True
        out_of_reach = embedded.loaded.content_hash is None and embedded.item.problem is None
        return out_of_reach and not (self._prune and _is_known_missing(embedded.item.file))

    def _record(self, embedded: EmbeddedItem, entry: LedgerEntry | None) -> LedgerRecord:
        loaded, notes = embedded.loaded, embedded.loaded.notes
        windows = embedded.windows if _status(embedded) == "indexed" else ()
        if entry is not None and self._keeps_rows(embedded):
            windows, notes = entry.windows, entry.notes
        times, captions = extent(windows), count_texts(windows)
        transcriber = None if loaded.transcript is None else loaded.transcript.transcriber
        if entry is not None and self._keeps_rows(embedded):
            transcriber = entry.transcriber
        return LedgerRecord(
            loaded.item, loaded.content_hash, loaded.stamp, embedded.reason, *times, notes, captions, transcriber
        )


def _is_known_missing(file: str) -> bool:
    try:
        return is_missing(file)
    except (OSError, ValueError, ClaraError):  # ValueError: a NUL in the name
        return False


def _status(embedded: EmbeddedItem) -> ItemStatus:
    if embedded.reason is not None:
        return "failed"
    return "indexed" if embedded.loaded.state == "fresh" else "unchanged"

"""Embedded items to committed rows, in portions, and the ledger after them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from clara_search.audio.windows import Window
from clara_search.errors import ClaraError
from clara_search.files.paths import is_missing
from clara_search.store.keyed_table import DEFAULT_KEEP_DAYS
from clara_search.store.table import Table
from indexer.embed.batches import EmbeddedItem
from indexer.ledger.ledger import Ledger, LedgerEntry, LedgerRecord, row_ids
from indexer.ledger.reconcile import Orphans
from indexer.runtime.allocator import release_memory
from indexer.runtime.timers import StageTimer
from indexer.sources.columns import ColumnType, convert_value, value_type, wider_type
from indexer.sources.item import Item

ItemStatus = Literal["indexed", "unchanged", "failed"]
Progress = Callable[[Item, ItemStatus], None]
"""Called for every item once it is settled."""

_COMMIT_ROWS = 512
_COMMIT_ROWS_AT_MOST = 2048
_COMMIT_AFTER_S = 30.0
_COMMIT_SHARE = 0.1
"""Of the time that commits may take: as a table grows they become slower, and so rarer and larger."""

_COMPACT_AFTER_COMMITS = 16

_GIVE_BACK_AFTER_S = 30.0
"""What is given back to the system has to be asked for again."""

_ARROW_TYPES: dict[ColumnType, pa.DataType] = {
    "bool": pa.bool_(),
    "int": pa.int64(),
    "float": pa.float64(),
    "text": pa.string(),
}
_KINDS = {arrow: kind for kind, arrow in _ARROW_TYPES.items()}


def arrow_columns(columns: Mapping[str, ColumnType]) -> dict[str, pa.DataType]:
    """Return the further columns of a manifest with the types they have in a table."""
    return {name: _ARROW_TYPES[kind] for name, kind in columns.items()}


class Writer:
    """Gathers embedded items and commits them, in a thread of its own: rows first, the ledger after.

    A batch and its entries are committed under one lock, so that the ledger always accounts for the rows of a table,
    whoever else writes. A cut between the two is harmless: the batch is written again, over itself.
    """

    def __init__(
        self,
        table: Table,
        ledger: Ledger,
        columns: Mapping[str, ColumnType],
        orphans: Orphans | None = None,
        prune: bool = False,
        progress: Progress | None = None,
        keep_days: float = DEFAULT_KEEP_DAYS,
        clock: StageTimer | None = None,
    ):
        self.counts: dict[ItemStatus, int] = {"indexed": 0, "unchanged": 0, "failed": 0}
        self.audio_s = 0.0
        self.removed = 0
        self.reused = 0
        self._table = table
        self._ledger = ledger
        self._columns = columns
        self._orphans = orphans or {}
        self._prune = prune
        self._progress = progress
        self._keep_days = keep_days
        self._clock = clock or StageTimer()
        self._settling = threading.Lock()
        self._held: list[EmbeddedItem] = []
        self._held_rows = 0
        self._commits = 0
        self._compact_after = _COMPACT_AFTER_COMMITS
        self._committed_at = time.monotonic()
        self._commit_s = 0.0
        self._gave_back_at = time.monotonic()
        self._error: BaseException | None = None
        # One batch is written, one waits, one is gathered: whoever is faster than the disk has to wait for it.
        self._batches: queue.Queue[list[EmbeddedItem] | None] = queue.Queue(1)
        self._thread = threading.Thread(target=self._run, name="write", daemon=True)
        self._thread.start()

    def add(self, embedded: EmbeddedItem) -> None:
        """Take an item, and have what came together committed where it is enough. Raises what a commit raised."""
        self._raise()
        if embedded.loaded.state in ("unchanged", "refused"):
            self._settle(embedded)
            return
        self._held.append(embedded)
        self._held_rows += max(1, len(embedded.windows))
        waited_s = time.monotonic() - self._committed_at
        is_due = self._held_rows >= _COMMIT_ROWS and waited_s * _COMMIT_SHARE >= self._commit_s
        if is_due or self._held_rows >= _COMMIT_ROWS_AT_MOST or waited_s >= _COMMIT_AFTER_S:
            self._hand_over()

    def close(self) -> None:
        """Commit the rest, and wait until all is on the disk. Raises what a commit raised."""
        if self._held and self._error is None:
            self._hand_over()
        self._batches.put(None)
        self._thread.join()
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _hand_over(self) -> None:
        held, self._held, self._held_rows = self._held, [], 0
        self._committed_at = time.monotonic()
        self._batches.put(held)

    def _run(self) -> None:
        while True:
            with self._clock.waiting():
                held = self._batches.get()
            if held is None:
                return
            if self._error is not None:  # what was embedded after it is embedded again by the next run
                continue
            try:
                with self._clock.working():
                    self._commit(held)
            except BaseException as error:
                self._error = error

    def _commit(self, held: Sequence[EmbeddedItem]) -> None:
        began = time.monotonic()
        with self._table.connection.commit_lock(self._table.name):
            known = self._ledger.entries(one.item for one in held)
            columns = self._columns_of([one for one in held if _status(one) == "indexed"])
            done = [one for one in held if _status(one) == "indexed"]
            if done:
                self._table.upsert(_rows(done, columns, self._table.info.dim))
            stale = {id_ for one in held for id_ in self._stale_ids(one, known.get(one.item.key))}
            stale.difference_update(id_ for one in done for id_ in _row_ids(one))
            self.removed += self._table.delete_ids(sorted(stale))
            self._ledger.record([self._record(one, known.get(one.item.key)) for one in held])
        self._commits += 1
        compacts = self._commits >= self._compact_after
        if compacts:
            # Ever rarer, since each time all of the table may be written anew.
            self._compact_after *= 2
            with self._table.connection.commit_lock(self._table.name):
                self._table.compact(self._keep_days)
                self._ledger.compact(self._keep_days)
        if compacts or began - self._gave_back_at >= _GIVE_BACK_AFTER_S:
            release_memory()
            self._gave_back_at = began
        self._commit_s = time.monotonic() - began
        for one in held:
            self._settle(one)

    def _columns_of(self, done: Sequence[EmbeddedItem]) -> Mapping[str, ColumnType]:
        """Return the types of all further columns of `done`; an item fails whose value does not fit into the table's.

        Of a stream that could not be surveyed, a column is what the table has, or what its first values are.
        """
        columns = dict(self._columns)
        new = {name: value for one in done for name, value in one.item.columns.items() if name not in columns}
        if not new:
            return columns
        there = {field.name: _KINDS.get(field.type, "text") for field in self._table.schema}
        for one in done:
            for name, value in one.item.columns.items():
                if name in there:
                    columns[name] = there[name]
                elif name not in self._columns:
                    columns[name] = wider_type(columns.get(name), value_type(value))
        for one in done:
            for name in new.keys() & one.item.columns.keys():
                if not _fits(one.item.columns[name], columns[name]):
                    one.reason = f"column '{name}' holds {one.item.columns[name]!r}, but {columns[name]} in the table"
        return columns

    def _settle(self, embedded: EmbeddedItem) -> None:
        status = _status(embedded)
        with self._settling:
            self.counts[status] += 1
            start_s, end_s = _covered(embedded.windows)
            if status == "indexed" and embedded.loaded.is_reused:
                self.reused += 1
            elif status == "indexed" and start_s is not None and end_s is not None:
                self.audio_s += end_s - start_s
            if self._progress is not None:
                self._progress(embedded.item, status)

    def _stale_ids(self, embedded: EmbeddedItem, entry: LedgerEntry | None) -> Sequence[str]:
        """Return the ids of the rows that the item had before and has no longer."""
        if self._keeps_rows(embedded):
            return []
        # Once for each uri: another stretch of the recording may have written some of them again by then.
        orphans = self._orphans.pop(embedded.item.uri, [])
        return [*(entry.row_ids if entry is not None else ()), *orphans]

    def _keeps_rows(self, embedded: EmbeddedItem) -> bool:
        """Tell whether the item's rows stay as they are: its content is the same, or out of reach for now."""
        if embedded.loaded.state == "touched":
            return True
        out_of_reach = embedded.loaded.content_hash is None and embedded.item.problem is None
        return out_of_reach and not (self._prune and _is_known_missing(embedded.item.file))

    def _record(self, embedded: EmbeddedItem, entry: LedgerEntry | None) -> LedgerRecord:
        start_s, end_s = _covered(embedded.windows) if _status(embedded) == "indexed" else (None, None)
        if entry is not None and self._keeps_rows(embedded):
            start_s, end_s = _covered(entry.windows)
        loaded = embedded.loaded
        return LedgerRecord(loaded.item, loaded.content_hash, loaded.stamp, embedded.reason, start_s, end_s)


def _is_known_missing(place: str) -> bool:
    try:
        return is_missing(place)
    except (OSError, ValueError, ClaraError):  # ValueError: a NUL in the name
        return False


def _fits(value: Any, kind: ColumnType) -> bool:
    """Tell whether a value can be stored in a column without losing anything."""
    try:
        return kind == "text" or bool(convert_value(value, kind) == value)
    except (KeyError, TypeError, ValueError):
        return False


def _status(embedded: EmbeddedItem) -> ItemStatus:
    if embedded.reason is not None:
        return "failed"
    return "indexed" if embedded.loaded.state == "fresh" else "unchanged"


def _covered(windows: Sequence[Window | None]) -> tuple[float | None, float | None]:
    """Return where the first window begins and the last one ends, in seconds; None for a text."""
    first, last = (windows[0], windows[-1]) if windows else (None, None)
    return (first.start_s if first else None), (last.end_s if last else None)


def _row_ids(embedded: EmbeddedItem) -> list[str]:
    return row_ids(embedded.item.uri, embedded.windows)


def _rows(embedded: Sequence[EmbeddedItem], columns: Mapping[str, ColumnType], dim: int) -> pa.Table:
    """Return the rows of all windows, or the one of a text, as the corpus table has them."""
    items = [one.item for one in embedded for _ in one.windows]
    windows = [window for one in embedded for window in one.windows]
    rows: dict[str, Any] = {
        "id": [id_ for one in embedded for id_ in _row_ids(one)],
        "kind": [item.kind for item in items],
        "uri": [item.uri for item in items],
        "start_s": pa.array([w.start_s if w else i.start_s for w, i in zip(windows, items, strict=True)], pa.float64()),
        "end_s": pa.array([w.end_s if w else i.end_s for w, i in zip(windows, items, strict=True)], pa.float64()),
        "text": pa.array([item.text for item in items], pa.string()),
        "language": pa.array([item.language for item in items], pa.string()),
        "content_hash": [one.loaded.content_hash for one in embedded for _ in one.windows],
        "vector": pa.FixedSizeListArray.from_arrays(np.concatenate([one.vectors for one in embedded]).ravel(), dim),
    }
    for name, kind in columns.items():
        values = [item.columns.get(name) for item in items]
        rows[name] = pa.array([None if v is None else convert_value(v, kind) for v in values], _ARROW_TYPES[kind])
    return pa.table(rows)

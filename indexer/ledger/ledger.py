"""The ledger of a corpus table: which items are done, and which failed and why; a table in the same database."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from clara_search.audio.decode.formats import PCM_SUFFIXES
from clara_search.audio.windows import Window, count_windows, covered_s
from clara_search.errors import DatabaseError
from clara_search.files.limits import AUDIO_SECONDS, WINDOWS
from clara_search.files.paths import FileStat, suffix_of
from clara_search.store.compaction import Moment
from clara_search.store.database import Database
from clara_search.store.keyed_table import KeyedTable
from clara_search.store.table import Table
from indexer.ledger.digest_map import DigestMap, digest, hex_digest, short_digest
from indexer.ledger.entry import LedgerEntry, LedgerRecord, segment_windows
from indexer.ledger.failures import LEDGER_KEY, NOTES_SEPARATOR, ledger_name, split_notes, stored_ledger
from indexer.ledger.snapshot import LedgerSnapshot, signature
from indexer.sources.item import Item

_COLUMNS = (
    *("key", "uri", "source", "kind", "status", "reason"),
    *("content_hash", "signature", "stamp", "start_s", "end_s", "at", "notes", "decoder", "captions", "transcriber"),
)
_ENTRY_COLUMNS = ("key", "uri", "source", "status", "kind", "start_s", "end_s", "notes", "captions", "transcriber")

DECODER_VERSION = 2
"""Version of the decoder and of the cutting into windows. What an older one read is read again, and embedded again
unless it is the same: files of samples and FLAC are, unless their last window was a short overhang."""

_SAME_SINCE_1 = PCM_SUFFIXES | {".flac"}


class Ledger:
    """The items that were indexed into a table, so that no work is done twice.

    Attributes:
        known: snapshot of the ledger when it was opened.
        rows: number of rows that the table should have.
    """

    def __init__(self, database: Database, table: Table, retry_failed: bool = False, transcribe: bool = False):
        self._info = table.info
        self._names = table.names
        self._table = table.name
        self._stored = stored_ledger(database, table.name) or _create(database, table.name)
        items, contents, spoken, self.rows = self._load()
        self.known = LedgerSnapshot(items, contents, retry_failed, spoken if transcribe else None)
        self._version = self._stored.version

    def with_content(self, content_hashes: Iterable[str]) -> Iterator[tuple[str, LedgerEntry]]:
        """Yield (content hash, entry) of the recordings and texts that are done and have one of these contents."""
        hashes = sorted(set(content_hashes))
        for where in self._stored.keys_in(hashes, "content_hash"):
            for row in self._rows([*_ENTRY_COLUMNS, "content_hash"], f"status = 'done' AND {where}"):
                yield row["content_hash"], self._entry(row)

    def entries(self, items: Iterable[Item]) -> dict[str, LedgerEntry]:
        """Return the present entries of `items` by key."""
        # If nobody else wrote since it was opened, the snapshot tells the new items.
        is_alone = self._stored.version == self._version
        keys = [self._names.store(item.key) for item in items if not is_alone or item.key in self.known]
        return {entry.key: entry for where in self._stored.keys_in(keys) for entry in self.scan(where)}

    def record(self, records: Sequence[LedgerRecord]) -> None:
        """Write the outcomes of items, replacing earlier ones."""
        import pyarrow as pa

        is_alone = self._stored.version == self._version
        now = datetime.now(UTC)
        rows = [self._stored_row(_row(record, now)) for record in records]
        self._stored.upsert(pa.Table.from_pylist(rows, schema=_schema()))
        if is_alone:
            self._version = self._stored.version

    def forget(self, keys: Sequence[str]) -> None:
        """Delete the entries of `keys`."""
        self._stored.delete_keys([self._names.store(key) for key in keys])

    def forget_where(self, where: str) -> None:
        """Delete the entries that pass an SQL filter."""
        self._stored.delete_where(where)

    def relocate(self, where: str, move: Callable[[str], str | None]) -> None:
        """Add entries with other names and sources, unless there are entries of these names; the old ones stay.

        Args:
            where: SQL filter of the entries.
            move: Returns the new name of a recording, text or source, None for one that stays.
        """
        import pyarrow as pa

        for batch in self._stored.batches(self._stored.schema.names, where):
            moved = []
            for row in batch.to_pylist():
                uri = move(row["uri"]) or row["uri"]
                key = uri + row["key"].removeprefix(row["uri"])
                if key == row["key"] or key not in self.known:
                    moved.append({**row, "key": key, "uri": uri, "source": move(row["source"]) or row["source"]})
            self._stored.upsert(pa.Table.from_pylist(moved, schema=self._stored.schema))

    def of_uris(self, uris: Iterable[str]) -> Iterator[LedgerEntry]:
        """Yield the entries of recordings and texts with these names, as the table stores them."""
        for where in self._stored.keys_in(sorted(set(uris)), "uri"):
            yield from self.scan(where)

    def compact_if_worthwhile(self, moment: Moment, retain_days: float, since: float) -> bool:
        """Compact its table as `KeyedTable` does, under the same lock as `record`; tell whether it did."""
        is_alone = self._stored.version == self._version
        is_compacted = self._stored.compact_if_worthwhile(moment, retain_days, since)
        if is_alone:
            self._version = self._stored.version
        return is_compacted

    def scan(self, where: str | None = None) -> Iterator[LedgerEntry]:
        """Yield the entries that match the SQL filter `where`."""
        return map(self._entry, self._rows(_ENTRY_COLUMNS, where))

    def unlisted(self, listed: DigestMap) -> Iterator[LedgerEntry]:
        """Yield the entries whose keys have no digest among `listed`."""
        present = [name for name in _ENTRY_COLUMNS if name in self._stored.schema.names]
        for batch in self._stored.batches(present):
            keys = map(self._names.show, batch["key"].to_pylist())
            numbers = [number for number, key in enumerate(keys) if digest(key) not in listed]
            yield from map(self._entry, batch.take(numbers).to_pylist() if numbers else ())

    def _load(self) -> tuple[DigestMap, Any, Any, int]:
        """Return digests by key, the sorted contents that are done and that are transcribed, and the number of rows."""
        known, contents, spoken, rows = DigestMap(3), array("Q"), array("Q"), 0
        for row in self._rows([*_ENTRY_COLUMNS, "stamp", "signature", "content_hash", "decoder"], None):
            rows += self._count_windows(row)
            stamp, signature = short_digest(row["stamp"]), short_digest(row["signature"])
            if is_old := row["kind"] == "audio" and row.get("decoder") != DECODER_VERSION:
                stamp = 0
                if row["status"] == "done" and not self._is_same_since_1(row):
                    signature = 1
            transcriber = digest(row["transcriber"]) if row.get("transcriber") else 0
            known.put(digest(self._names.show(row["key"])), stamp, signature, transcriber)
            if row["status"] == "done" and not is_old:
                contents.append(short_digest(row["content_hash"] or ""))
                if transcriber:
                    spoken.append(contents[-1])
        return known, np.sort(np.array(contents, np.uint64)), np.sort(np.array(spoken, np.uint64)), rows

    def _is_same_since_1(self, row: dict[str, Any]) -> bool:
        """Tell whether a recording that was indexed by an older decoder has the same rows now."""
        duration_s = (row["end_s"] or 0.0) - (row["start_s"] or 0.0)
        overhang_s = duration_s - covered_s(duration_s, self._info.window_s, self._info.hop_s)
        return overhang_s < 1e-6 and suffix_of(row["uri"]) in _SAME_SINCE_1

    def _rows(self, columns: Sequence[str], where: str | None) -> Iterator[dict[str, Any]]:
        present = set(self._stored.schema.names)  # older ledgers have fewer
        for batch in self._stored.batches([name for name in columns if name in present], where):
            yield from batch.to_pylist()

    def _stored_row(self, row: dict[str, Any]) -> dict[str, Any]:
        return {**row, **{name: self._names.store(row[name]) for name in ("key", "uri", "source")}}

    def _entry(self, row: dict[str, Any]) -> LedgerEntry:
        stored_uri, show = row["uri"], self._names.show
        row = {**row, **{name: show(row[name]) for name in ("key", "uri", "source")}}
        return LedgerEntry(
            key=row["key"],
            failed=row["status"] == "failed",
            source=row["source"],
            kind=row["kind"],
            uri=row["uri"],
            file=row["uri"] if row["kind"] == "audio" else row["source"],
            windows=self._windows(row),
            notes=split_notes(row.get("notes")),
            transcriber=row.get("transcriber"),
            stored_uri=stored_uri,
        )

    def _count_windows(self, row: dict[str, Any]) -> int:
        """Return the number of windows of an entry. Raises DatabaseError for times that no recording has."""
        start_s, end_s, captions = row["start_s"] or 0.0, row["end_s"], row.get("captions") or 0
        if end_s is None:
            return captions or int(row["kind"] == "text" and row["status"] == "done")
        where = f"ledger of table '{self._table}': {row['uri']}"
        if not 0 <= start_s <= end_s:
            raise DatabaseError(f"{where}: ends at {end_s:g} s and starts at {start_s:g} s")
        AUDIO_SECONDS.check(end_s - start_s, where, DatabaseError)
        count = count_windows(end_s - start_s, self._info.window_s, self._info.hop_s) + captions
        WINDOWS.check(count, where, DatabaseError)
        return count

    def _windows(self, row: dict[str, Any]) -> tuple[Window | None, ...]:
        count = self._count_windows(row)
        if row["end_s"] is None:
            return (None,) * count
        captions = (None,) * (row.get("captions") or 0)
        return (*segment_windows(row["start_s"], row["end_s"], self._info), *captions)


def file_stamp(item: Item, stat: FileStat) -> str:
    """Return a digest that changes with the item's file or columns; empty if the file's stat cannot be trusted."""
    return hex_digest(f"{stat.size} {stat.token} {item.details}") if stat.token else ""


def _row(record: LedgerRecord, at: datetime) -> dict[str, Any]:
    item, done = record.item, record.reason is None
    return {
        "key": item.key,
        "uri": item.uri,
        "source": item.source,
        "kind": item.kind,
        "status": "done" if done else "failed",
        "reason": record.reason,
        "content_hash": record.content_hash,
        "signature": signature(item, record.content_hash) if done and record.content_hash else "",
        "stamp": record.stamp,
        "start_s": record.start_s,
        "end_s": record.end_s,
        "at": at,
        "notes": NOTES_SEPARATOR.join(record.notes) or None,
        "decoder": DECODER_VERSION if item.kind == "audio" else None,
        "captions": record.captions or None,
        "transcriber": record.transcriber,
    }


def _schema() -> Any:
    import pyarrow as pa

    seconds = {"start_s": pa.float64(), "end_s": pa.float64()}
    types = {**seconds, "at": pa.timestamp("us", tz="UTC"), "decoder": pa.int32(), "captions": pa.int32()}
    nullable = {"reason", "content_hash", "start_s", "end_s", "notes", "decoder", "captions", "transcriber"}
    return pa.schema([pa.field(name, types.get(name, pa.string()), nullable=name in nullable) for name in _COLUMNS])


def _create(database: Database, table: str) -> KeyedTable:
    return database.create_keyed_table(ledger_name(table), _schema(), LEDGER_KEY)

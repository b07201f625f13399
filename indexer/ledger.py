"""The ledger of a corpus table: what is done, what failed and why. It lies beside the table, in the same database."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clara_search.audio import Window, windows
from clara_search.keyed import KeyedTable, sql_string
from clara_search.store import Database, Table, ledger_name, row_id
from indexer.items import Item

Digest = bytes
"""16 bytes."""

_UNTRUSTED_NS = 2_000_000_000
"""A file as young as this when it was read may be written again within the same tick of the file system's clock."""

_KEYS_PER_LOOKUP = 500
_COLUMNS = (
    *("key", "uri", "source", "kind", "status", "reason"),
    *("content_hash", "signature", "stamp", "start_s", "end_s", "at"),
)


@dataclass(frozen=True)
class Record:
    """How an item ended: done, with the stretch that its windows cover, or failed, with a reason.

    `content_hash` is the sha256 of the file or text, None where it could not be read. `stamp` tells a file that was not
    touched since without reading it; empty where it cannot.
    """

    item: Item
    content_hash: str | None
    stamp: str
    reason: str | None = None
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True)
class Entry:
    """An item as the ledger knows it, with the ids of its rows in the corpus table."""

    key: str
    failed: bool
    source: str
    file: str
    start_s: float | None
    end_s: float | None
    row_ids: tuple[str, ...]


class Ledger:
    """What was indexed into `table`, so that the same work is never done twice."""

    def __init__(self, database: Database, table: Table):
        self._info = table.info
        self._stored = database.ledger(table.name) or _create(database, table.name)
        self._known = dict(self._load())

    def is_untouched(self, item: Item, stamp: str) -> bool:
        """Tell whether the item is done and its file was not touched since: nothing has to be read."""
        known = self._known.get(digest(item.key))
        return bool(stamp) and known is not None and known[0] == bytes.fromhex(stamp)

    def is_done(self, item: Item, content_hash: str) -> bool:
        """Tell whether the item is done with this content and these columns."""
        known = self._known.get(digest(item.key))
        return known is not None and known[1] == _signature(item, content_hash)

    def entries(self, items: Iterable[Item]) -> dict[str, Entry]:
        """Return what the ledger holds of `items`, by their keys."""
        keys = [item.key for item in items if digest(item.key) in self._known]
        found = {}
        for start in range(0, len(keys), _KEYS_PER_LOOKUP):
            listed = ", ".join(sql_string(key) for key in keys[start : start + _KEYS_PER_LOOKUP])
            found.update({entry.key: entry for entry in self._scan(f"key IN ({listed})")})
        return found

    def record(self, records: Sequence[Record]) -> None:
        """Write how items ended, over what was known of them."""
        import pyarrow as pa

        now = datetime.now(UTC)
        rows = [_row(record, now) for record in records]
        self._stored.upsert(pa.Table.from_pylist(rows, schema=_schema()))
        self._known.update((digest(row["key"]), _stamps(row["stamp"], row["signature"])) for row in rows)

    def forget(self, keys: Sequence[str]) -> None:
        """Drop what is known of `keys`."""
        self._stored.delete_keys(keys)

    def gone(self, sources: Iterable[Path], was_seen: Callable[[str], bool]) -> Iterator[Entry]:
        """Yield the entries under `sources` that are no longer there.

        Of a folder that is what lies in it no longer, of a manifest or a text file what it no longer lists: what
        `was_seen` does not know by its key.
        """
        folders = tuple(f"{source}{os.sep}" for source in sources if source.is_dir())
        files = {str(source) for source in sources if not source.is_dir()}
        for entry in self._scan(None):
            if was_seen(entry.key):
                continue
            if entry.source in files or (entry.file.startswith(folders) and is_missing(entry.file)):
                yield entry

    def _load(self) -> Iterator[tuple[Digest, tuple[Digest, Digest]]]:
        for batch in self._stored.scan(["key", "stamp", "signature"]).to_batches():
            for key, stamp, signature in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield digest(key), _stamps(stamp, signature)

    def _scan(self, where: str | None) -> Iterator[Entry]:
        columns = ["key", "uri", "source", "status", "kind", "start_s", "end_s"]
        for batch in self._stored.scan(columns, where).to_batches():
            for row in batch.to_pylist():
                yield Entry(
                    key=row["key"],
                    failed=row["status"] == "failed",
                    source=row["source"],
                    file=row["uri"] if row["kind"] == "audio" else row["source"],
                    start_s=row["start_s"],
                    end_s=row["end_s"],
                    row_ids=tuple(self._row_ids(row)),
                )

    def _row_ids(self, row: dict[str, Any]) -> Iterator[str]:
        if row["end_s"] is not None:
            for start_s, end_s in stretch_windows(row["start_s"], row["end_s"], self._info.window_s, self._info.hop_s):
                yield row_id(row["uri"], start_s, end_s)
        elif row["kind"] == "text" and row["status"] == "done":
            yield row_id(row["uri"], None, None)


def stretch_windows(start_s: float, end_s: float, window_s: float, hop_s: float) -> Iterator[Window]:
    """Yield the windows that cover a recording from `start_s` to `end_s` seconds."""
    for window in windows(end_s - start_s, window_s, hop_s):
        yield Window(start_s + window.start_s, start_s + window.end_s)


def stamp_of(item: Item, status: os.stat_result) -> str:
    """Return what changes when the item's file or columns do; empty for a file too young to tell."""
    if time.time_ns() - status.st_mtime_ns < _UNTRUSTED_NS:
        return ""
    return digest(f"{status.st_size} {status.st_mtime_ns} {_details(item)}").hex()


def digest(text: str) -> Digest:
    """Return 16 bytes that stand for `text`."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _stamps(stamp: str, signature: str) -> tuple[Digest, Digest]:
    return bytes.fromhex(stamp), bytes.fromhex(signature)


def _signature(item: Item, content_hash: str) -> Digest:
    return digest(f"{content_hash} {_details(item)}")


def _details(item: Item) -> str:
    """Everything but the content that ends up in a row."""
    return json.dumps([item.text, item.language, item.start_s, item.end_s, item.columns], sort_keys=True, default=str)


def _row(record: Record, at: datetime) -> dict[str, Any]:
    item, done = record.item, record.reason is None
    return {
        "key": item.key,
        "uri": item.uri,
        "source": item.source,
        "kind": item.kind,
        "status": "done" if done else "failed",
        "reason": record.reason,
        "content_hash": record.content_hash,
        "signature": _signature(item, record.content_hash).hex() if done and record.content_hash else "",
        "stamp": record.stamp if done else "",
        "start_s": record.start_s,
        "end_s": record.end_s,
        "at": at,
    }


def _schema() -> Any:
    import pyarrow as pa

    types = {"start_s": pa.float64(), "end_s": pa.float64(), "at": pa.timestamp("us", tz="UTC")}
    nullable = {"reason", "content_hash", "start_s", "end_s"}
    return pa.schema([pa.field(name, types.get(name, pa.string()), nullable=name in nullable) for name in _COLUMNS])


def _create(database: Database, table: str) -> KeyedTable:
    return database.create_keyed_table(ledger_name(table), _schema(), key="key")


def is_missing(path: str) -> bool:
    """Tell whether there is nothing at `path`, as against something that cannot be looked at."""
    try:
        Path(path).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False

"""The stored ledger of a table: its failures, its notes on recordings, and who transcribed them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from clara_search.files.gate import ForeignUri
from clara_search.files.paths import is_url
from clara_search.store.connection import Connection
from clara_search.store.database import DEFAULT_TABLE
from clara_search.store.keyed_table import KeyedTable
from clara_search.store.table import Table

LEDGER_KEY = "key"
"""Key column of a ledger."""

NOTES_SEPARATOR = "; "
"""Between the notes on a recording."""

_LEDGER_PREFIX = "_ledger_"


def ledger_name(table: str) -> str:
    """Return the name of the LanceDB table that records what was indexed into `table`."""
    return _LEDGER_PREFIX + table


def stored_ledger(database: Connection, table: str) -> KeyedTable | None:
    """Return the ledger of `table`, one row per item, or None if there is none yet."""
    name = ledger_name(table)
    return KeyedTable(database, name, LEDGER_KEY) if database.has(name) else None


def failures(database: Connection, table: str = DEFAULT_TABLE) -> list[dict[str, Any]]:
    """Return the failed items of `table` as dicts with `uri`, `reason` and time `at`, sorted by uri."""
    ledger = stored_ledger(database, table)
    if ledger is None:
        return []
    failed = ledger.scan(["uri", "reason", "at"], where="status = 'failed'").sort_by("uri").to_pylist()
    show = Table(database, table).names.show
    return [{**row, "uri": show(row["uri"])} for row in failed]


def split_notes(notes: str | None) -> tuple[str, ...]:
    """Return the notes on a recording, as the ledger has them, one by one."""
    return tuple(notes.split(NOTES_SEPARATOR)) if notes else ()


def notes(database: Connection, table: str = DEFAULT_TABLE) -> list[dict[str, Any]]:
    """Return the recordings of `table` that are out of the ordinary, as dicts with `uri` and `notes`, sorted by uri."""
    ledger = stored_ledger(database, table)
    if ledger is None or "notes" not in ledger.schema.names:
        return []
    noted = ledger.scan(["uri", "notes"], where="notes IS NOT NULL").sort_by("uri")
    show = Table(database, table).names.show
    return [{"uri": show(row["uri"]), "notes": list(split_notes(row["notes"]))} for row in noted.to_pylist()]


def failed_sources(database: Connection, table: str = DEFAULT_TABLE) -> list[ForeignUri]:
    """Return the sources of the failed items, sorted; local ones only if they still exist."""
    ledger = stored_ledger(database, table)
    if ledger is None:
        return []
    sources = set(ledger.scan(["source"], where="status = 'failed'")["source"].to_pylist())
    sources = set(map(Table(database, table).names.show, sources))
    existing = sorted(source for source in sources if is_url(source) or (source and Path(source).exists()))
    return [ForeignUri(source) for source in existing]


def transcribers(database: Connection, table: str = DEFAULT_TABLE) -> dict[str, int]:
    """Return how many recordings of `table` each model transcribed, by its name and fingerprint, the most first."""
    ledger = stored_ledger(database, table)
    if ledger is None or "transcriber" not in ledger.schema.names:
        return {}
    counts = Counter(ledger.scan(["transcriber"], where="transcriber IS NOT NULL")["transcriber"].to_pylist())
    return dict(counts.most_common())

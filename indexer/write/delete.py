"""Deletion of rows by a filter, in a table and its ledger."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from clara_search.store.database import DEFAULT_TABLE, Database
from clara_search.store.table import Table
from indexer.ledger.digest_map import DigestMap, digest
from indexer.ledger.ledger import Ledger
from indexer.ledger.reconcile import open_ledger


@dataclass(frozen=True)
class DeleteResult:
    """Counts of a deletion.

    Attributes:
        rows: Rows that were deleted, or would be.
        items: Recordings, segments and texts that have fewer rows by that.
        remaining: Rows that the table has then.
    """

    rows: int
    items: int
    remaining: int


def delete_rows(
    database: Database | str | Path, where: str, table: str = DEFAULT_TABLE, *, dry_run: bool = False
) -> DeleteResult:
    """Delete the rows that pass a filter, and the ledger's entries of the items that they belong to.

    An item that lost a row is no longer known as done: `index` adds it again if a source still lists it. Rows leave the
    disk when the versions that have them are old enough (`retain_days` of `index`).

    Args:
        database: The database, its folder or its URL.
        where: An SQL filter.
        table: Name of the table.
        dry_run: Count only.

    Returns:
        The counts.

    Raises:
        QueryError: The filter cannot be used.
        DatabaseError: The table is missing, or cannot be written.
    """
    database = database if isinstance(database, Database) else Database(database)
    corpus = database.table(table)
    open_ledger(database, corpus)  # completes what was killed
    with database.commit_lock(table):
        ledger = Ledger(database, corpus)
        keys, rows = _affected(corpus, ledger, where)
        if dry_run or not rows:
            return DeleteResult(rows, len(keys), corpus.count() - rows)
        # In this order: if this is killed in between, the entries without rows are mended when the ledger is opened.
        rows = corpus.delete_where(where)
        ledger.forget(keys)
        return DeleteResult(rows, len(keys), corpus.count())


def _affected(corpus: Table, ledger: Ledger, where: str) -> tuple[list[str], int]:
    """Return the keys of the items that have rows which pass the filter, and the number of these rows."""
    keys, rows = dict[str, None](), 0
    for batch in corpus.batches(["id", "uri"], where):
        rows += batch.num_rows
        ids = DigestMap(0)
        for id_ in batch["id"].to_pylist():
            ids.put(digest(id_))
        keys.update(dict.fromkeys(_keys(ledger, batch["uri"].to_pylist(), ids)))
    return list(keys), rows


def _keys(ledger: Ledger, uris: Iterable[str], ids: DigestMap) -> Iterable[str]:
    for entry in ledger.of_uris(uris):
        if any(digest(id_) in ids for id_ in entry.row_ids):
            yield entry.key

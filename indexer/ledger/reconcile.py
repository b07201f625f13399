"""Reconciling a ledger with its table after a killed run or a incomplete version."""

from __future__ import annotations

from clara_search.store.database import Database
from clara_search.store.table import Table
from indexer.ledger.digest_map import DigestMap, digest
from indexer.ledger.ledger import Ledger

Orphans = dict[str, list[str]]
"""Ids of rows without a ledger entry, by uri."""


def open_ledger(
    database: Database, table: Table, retry_failed: bool = False, transcribe: bool = False
) -> tuple[Ledger, Orphans]:
    """Open the ledger of a table and reconcile the two.

    A run that is killed between a batch and its ledger entries leaves rows without an entry: indexing their recordings
    replaces them. Entries whose rows are missing are deleted, so that they are indexed again. If the numbers of rows
    agree, nothing else is read.

    Returns:
        The ledger, and the rows without an entry.
    """
    with database.commit_lock(table.name):
        ledger = Ledger(database, table, retry_failed, transcribe)
        if ledger.rows == table.count():
            return ledger, {}
        orphans, incomplete = _differences(table, ledger)
        if incomplete:
            ledger.forget(incomplete)
            ledger = Ledger(database, table, retry_failed, transcribe)
        return ledger, orphans


def _differences(table: Table, ledger: Ledger) -> tuple[Orphans, list[str]]:
    """Return the rows without an entry, and the keys of entries with missing rows."""
    in_table, in_ledger = DigestMap(0), DigestMap(0)
    for batch in table.batches(["id"]):
        for id_ in batch["id"].to_pylist():
            in_table.put(digest(id_))
    incomplete = []
    for entry in ledger.scan():
        numbers = [digest(id_) for id_ in entry.row_ids]
        if all(number in in_table for number in numbers):
            for number in numbers:
                in_ledger.put(number)
        else:
            incomplete.append(entry.key)
    orphans: Orphans = {}
    for batch in table.batches(["id", "uri"]):
        for id_, uri in zip(batch["id"].to_pylist(), batch["uri"].to_pylist(), strict=True):
            if digest(id_) not in in_ledger:
                orphans.setdefault(table.names.show(uri), []).append(id_)
    return orphans, incomplete

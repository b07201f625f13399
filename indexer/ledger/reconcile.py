"""The ledger held against the table: what a run that was cut off, or a version that was lost, left unequal."""

from __future__ import annotations

from clara_search.store.database import Database
from clara_search.store.table import Table
from indexer.ledger.digest_map import DigestMap, digest
from indexer.ledger.ledger import Ledger

Orphans = dict[str, list[str]]
"""Ids of rows that no entry of the ledger knows, by uri."""


def open_ledger(database: Database, table: Table, retry_failed: bool = False) -> tuple[Ledger, Orphans]:
    """Return the ledger of `table`, and the rows that it does not account for.

    A run that was killed between a batch and its entries leaves such rows; whoever indexes their recordings replaces
    them. What the ledger holds for done but the table has lost is forgotten, and so is done again. Where the numbers
    agree, nothing but they is looked at.
    """
    with database.commit_lock(table.name):
        ledger = Ledger(database, table, retry_failed)
        if ledger.rows == table.count():
            return ledger, {}
        orphans, lost = _differences(table, ledger)
        if lost:
            ledger.forget(lost)
            ledger = Ledger(database, table, retry_failed)
        return ledger, orphans


def _differences(table: Table, ledger: Ledger) -> tuple[Orphans, list[str]]:
    """Return the rows without an entry, and the keys of entries without all of their rows."""
    there, noted = DigestMap(0), DigestMap(0)
    for batch in table.batches(["id"]):
        for id_ in batch["id"].to_pylist():
            there.put(digest(id_))
    lost = []
    for entry in ledger.scan():
        numbers = [digest(id_) for id_ in entry.row_ids]
        if all(number in there for number in numbers):
            for number in numbers:
                noted.put(number)
        else:
            lost.append(entry.key)
    orphans: Orphans = {}
    for batch in table.batches(["id", "uri"]):
        for id_, uri in zip(batch["id"].to_pylist(), batch["uri"].to_pylist(), strict=True):
            if digest(id_) not in noted:
                orphans.setdefault(uri, []).append(id_)
    return orphans, lost

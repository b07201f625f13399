"""Compaction of a corpus table and its ledger, depending on their state."""

from __future__ import annotations

import logging

from clara_search.errors import DatabaseError
from clara_search.retrieval.ann import index as ann
from clara_search.store.compaction import Moment
from clara_search.store.database import Database
from clara_search.store.table import Table
from clara_search.store.words import index as words
from indexer.ledger.failures import stored_ledger
from indexer.ledger.ledger import Ledger

_log = logging.getLogger(__name__)


def compact_if_worthwhile(table: Table, ledger: Ledger, moment: Moment, retain_days: float) -> bool:
    """Compact a table and its ledger, each if its state requires it; after a run, the word index takes in its rows.

    If that fails, as on a full disk, the tables stay as they were and a warning is logged.

    Returns:
        Whether either was compacted.
    """
    try:
        with table.connection.commit_lock(table.name):
            is_compacted = table.compact_if_worthwhile(moment, retain_days)
            is_compacted |= ledger.compact_if_worthwhile(moment, retain_days)
            if moment == "after":  # compaction extends it too
                is_compacted |= words.extend(table)
    except DatabaseError as error:
        _log.warning("not compacted: %s", error)
        return False
    if is_compacted:
        _log.info("compacted table '%s'", table.name)
    return is_compacted


def compact_now(database: Database, name: str, retain_days: float, purge: bool = False) -> bool:
    """Compact a table and its ledger whatever their state.

    Args:
        database: The database.
        name: Name of the corpus table.
        retain_days: Age in days at which old versions are deleted.
        purge: Whether deleted rows must be gone from the disk afterwards. An ANN index that holds some is dropped.

    Returns:
        Whether an ANN index was dropped.

    Raises:
        DatabaseError: A table cannot be read or written.
    """
    table, ledger = database.table(name), stored_ledger(database, name)
    with database.commit_lock(name):
        if purge and words.exists(table):  # it has the words of deleted rows too
            words.build(table)
        table.compact(retain_days, purge)
        if ledger is not None:
            ledger.compact(retain_days, purge)
    if not purge or (status := ann.status(table)) is None or not status.num_stale_rows:
        return False
    return ann.drop(table)

"""Compaction of a corpus table and its ledger, depending on their state."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from clara_search.errors import DatabaseError
from clara_search.retrieval.ann import index as ann
from clara_search.store.compaction import DEFAULT_RETAIN_DAYS, Moment
from clara_search.store.database import Database
from clara_search.store.table import Table
from clara_search.store.words import index as words
from indexer.ledger.failures import stored_ledger
from indexer.ledger.ledger import Ledger

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Upkeep:
    """Compacts a table and its ledger during a run, each if its state requires it; at the end, extends the word index.

    Attributes:
        table: The corpus table.
        ledger: Its ledger.
        since: When the run began, in seconds since the epoch: versions of its own need not be kept.
        retain_days: Age in days at which old versions are deleted.
        is_on: Whether anything is done.
    """

    table: Table
    ledger: Ledger
    since: float
    retain_days: float = DEFAULT_RETAIN_DAYS
    is_on: bool = True

    def __call__(self, moment: Moment) -> bool:
        """Compact what its state requires it for at this moment of the run.

        If that fails, as on a full disk, the tables stay as they were and a warning is logged.

        Returns:
            Whether either was compacted.
        """
        if not self.is_on:
            return False
        try:
            with self.table.connection.commit_lock(self.table.name):
                is_compacted = self.table.compact_if_worthwhile(moment, self.retain_days, self.since)
                is_compacted |= self.ledger.compact_if_worthwhile(moment, self.retain_days, self.since)
                if moment == "after":  # compaction extends it too
                    is_compacted |= words.extend(self.table)
        except DatabaseError as error:
            _log.warning("not compacted: %s", error)
            return False
        if is_compacted:
            _log.info("compacted table '%s'", self.table.name)
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

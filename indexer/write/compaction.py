"""Compaction of a corpus table and its ledger, depending on their state."""

from __future__ import annotations

import logging

from clara_search.errors import DatabaseError
from clara_search.store.compaction import Moment
from clara_search.store.table import Table
from indexer.ledger.ledger import Ledger

_log = logging.getLogger(__name__)


def compact_if_worthwhile(table: Table, ledger: Ledger, moment: Moment, retain_days: float) -> bool:
    """Compact a table and its ledger, each if its state requires it.

    If that fails, as on a full disk, the tables stay as they were and a warning is logged.

    Returns:
        Whether either was compacted.
    """
    try:
        with table.connection.commit_lock(table.name):
            is_compacted = table.compact_if_worthwhile(moment, retain_days)
            is_compacted |= ledger.compact_if_worthwhile(moment, retain_days)
    except DatabaseError as error:
        _log.warning("not compacted: %s", error)
        return False
    if is_compacted:
        _log.info("compacted table '%s'", table.name)
    return is_compacted

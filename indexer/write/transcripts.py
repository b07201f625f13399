"""What a run that transcribes leaves: a word index, and a line about transcripts of several models."""

from __future__ import annotations

import logging

from clara_search.errors import DatabaseError
from clara_search.store.table import Table
from clara_search.store.words import index as words
from indexer.ledger.failures import transcribers

_SHOWN = 8
"""Digits of a fingerprint in messages."""

_log = logging.getLogger(__name__)


def finish_transcripts(table: Table) -> None:
    """Build the word index of a table that has texts and none yet, and warn of transcripts of several models."""
    try:
        with table.connection.commit_lock(table.name):
            if not words.is_built(table) and table.count("text IS NOT NULL"):
                words.build(table)
    except DatabaseError as error:
        _log.warning("no word index: %s", error)
    counts = transcribers(table.connection, table.name)
    if len(counts) > 1:
        listed = ", ".join(f"{show_transcriber(label)} {count:,}" for label, count in counts.items())
        _log.warning("table '%s' has transcripts of several models, by recordings: %s", table.name, listed)


def show_transcriber(label: str) -> str:
    """Return name and fingerprint of a model, as a ledger has them, as "name (0123abcd...)"."""
    name, _, fingerprint = label.rpartition(" ")
    return f"{name} ({fingerprint[:_SHOWN]}...)"

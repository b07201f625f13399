"""Duplicates: recordings that are indexed under another URI take over its vectors from the table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from clara_search.store.table import Table
from indexer.decode.read import LoadedItem, reload_item
from indexer.ledger.ledger import Ledger, LedgerEntry

_LOOKUP_BATCH = 64
"""Duplicates are looked up in batches: each look-up reads a column of the table."""


def reuse_vectors(loaded: Iterable[LoadedItem], ledger: Ledger, table: Table, sample_rate: int) -> Iterator[LoadedItem]:
    """Yield `loaded`; duplicates come with the vectors of the recording that has their content, or else decoded.

    Args:
        loaded: items whose files were read.
        ledger: the ledger of `table`.
        table: the table that has the vectors.
        sample_rate: rate in Hz at which a duplicate without vectors is decoded.
    """
    duplicates: list[LoadedItem] = []
    for item in loaded:
        if item.state != "duplicate":
            yield item
            continue
        duplicates.append(item)
        if len(duplicates) == _LOOKUP_BATCH:
            yield from _with_vectors(duplicates, ledger, table, sample_rate)
            duplicates = []
    yield from _with_vectors(duplicates, ledger, table, sample_rate)


def _with_vectors(duplicates: list[LoadedItem], ledger: Ledger, table: Table, sample_rate: int) -> Iterator[LoadedItem]:
    if not duplicates:
        return
    donors: dict[tuple[str, str], LedgerEntry] = {}
    for content_hash, entry in ledger.with_content(item.content_hash or "" for item in duplicates):
        donors[content_hash, entry.key.removeprefix(entry.uri)] = entry
    vectors = table.vectors_of([id_ for entry in donors.values() for id_ in entry.row_ids])
    for item in duplicates:
        donor = donors.get((item.content_hash or "", item.item.segment))
        donor_vectors = [vectors.get(id_) for id_ in donor.row_ids] if donor is not None else [None]
        if donor is None or any(vector is None for vector in donor_vectors):  # another segment, or the rows are gone
            yield reload_item(item, sample_rate)
            continue
        windows = tuple(window for window in donor.windows if window is not None)
        stacked = np.stack([vector for vector in donor_vectors if vector is not None])
        yield replace(item, state="fresh", windows=windows, vectors=stacked, is_reused=True)

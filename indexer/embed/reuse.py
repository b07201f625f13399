"""Recordings that are known under another name: their vectors are read from the table and not made again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from clara_search.store.table import Table
from indexer.decode.read import LoadedItem, reload_item
from indexer.ledger.ledger import Ledger, LedgerEntry

_GATHERED = 64
"""So many are looked up together, for looking up one means reading a column of the table."""


def reuse_vectors(loaded: Iterable[LoadedItem], ledger: Ledger, table: Table, sample_rate: int) -> Iterator[LoadedItem]:
    """Yield `loaded`; what is "known" comes with the vectors of the recording that has its content, else decoded."""
    known: list[LoadedItem] = []
    for one in loaded:
        if one.state != "known":
            yield one
            continue
        known.append(one)
        if len(known) == _GATHERED:
            yield from _with_vectors(known, ledger, table, sample_rate)
            known = []
    yield from _with_vectors(known, ledger, table, sample_rate)


def _with_vectors(known: list[LoadedItem], ledger: Ledger, table: Table, sample_rate: int) -> Iterator[LoadedItem]:
    if not known:
        return
    donors: dict[tuple[str, str], LedgerEntry] = {}
    for content_hash, entry in ledger.with_content(one.content_hash or "" for one in known):
        donors[content_hash, entry.key.removeprefix(entry.uri)] = entry
    vectors = table.vectors_of([id_ for entry in donors.values() for id_ in entry.row_ids])
    for one in known:
        donor = donors.get((one.content_hash or "", one.item.segment))
        found = [vectors.get(id_) for id_ in donor.row_ids] if donor is not None else [None]
        if donor is None or any(vector is None for vector in found):  # another stretch of it, or its rows are gone
            yield reload_item(one, sample_rate)
            continue
        spans = tuple(span for span in donor.windows if span is not None)
        yield replace(
            one, state="fresh", windows=spans, vectors=np.stack([v for v in found if v is not None]), is_reused=True
        )

"""Check that an ANN index fits its table."""

from __future__ import annotations

from collections.abc import Callable

from clara_search.errors import DatabaseError
from clara_search.retrieval.ann import index as ann
from clara_search.retrieval.ann.tuning import Encode
from clara_search.store.table import Table
from clara_search.store.verify import Finding

_REBUILT_SHARE = 0.1
"""Of an index that is sound, this share of changed rows makes a repair build it anew."""


def verify_index(table: Table, repair: bool = False, encode: Encode | None = None) -> Finding:
    """Check that the ANN index of a table is whole. Rows that it does not cover yet are searched exactly.

    Args:
        table: The table, with or without an index.
        repair: Whether to build a bad index anew, and one that many rows changed since.
        encode: As in `ann.index.build`.

    Returns:
        The finding of the check "ann".

    Raises:
        DatabaseError: The index cannot be repaired.
    """
    build: Callable[[], object]
    try:
        status = ann.status(table)
        if status is None:
            return Finding(table.name, "ann", True, "there is no ANN index")
        detail = f"covers {status.num_indexed_rows:,} rows"
        if status.num_unindexed_rows:
            detail += f"; {status.num_unindexed_rows:,} rows not yet indexed"
        if status.num_stale_rows:
            detail += f"; {status.num_stale_rows:,} of its rows replaced or deleted since"
        changed = status.num_unindexed_rows + status.num_stale_rows
        if not repair or changed <= _REBUILT_SHARE * max(1, status.num_indexed_rows):
            return Finding(table.name, "ann", True, detail)
        meta = status.meta
        build = lambda: ann.build(table, meta.backend, meta.target_recall, meta.k, encode)  # noqa: E731
    except DatabaseError as error:
        detail, build = str(error), lambda: ann.build(table, encode=encode)
    if not repair:
        return Finding(table.name, "ann", False, detail)
    if table.count():
        build()
    else:
        ann.drop(table)
    return Finding(table.name, "ann", True, f"{detail}: built anew", True)

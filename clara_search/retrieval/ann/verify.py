"""Check that an ANN index fits its table."""

from __future__ import annotations

from collections.abc import Callable

from clara_search.errors import DatabaseError
from clara_search.retrieval.ann import index as ann
from clara_search.store.table import Table
from clara_search.store.verify import Finding

_STALE_SHARE = 0.1


def verify_index(table: Table, repair: bool = False) -> Finding:
    """Check that the ANN index of `table`, where it has one, is whole and covers most rows; build it anew to repair."""
    build: Callable[[], object]
    try:
        status = ann.status(table)
        if status is None:
            return Finding(table.name, "ann", True, "there is no ANN index")
        detail = f"covers {status.covered} rows, {status.added} were added and {status.gone} are gone since"
        if status.added + status.gone <= _STALE_SHARE * max(1, status.covered):
            return Finding(table.name, "ann", True, detail)
        meta = status.meta
        build = lambda: ann.build(table, meta.kind, meta.target_recall)  # noqa: E731
    except DatabaseError as error:
        detail, build = str(error), lambda: ann.build(table)
    if not repair:
        return Finding(table.name, "ann", False, detail)
    if table.count():
        build()
    else:
        ann.drop(table)
    return Finding(table.name, "ann", True, f"{detail}: built anew", True)

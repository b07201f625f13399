"""The ANN index of a table: built on request, tuned to a measured recall, checked when loaded.

An index is derived data: it lies in `_ann/<table>/` of the database and can be dropped and built again; it changes
nothing in results but their recall. It keeps the state of each row that it covers: rows added or replaced since the
build are searched exactly and merged, rows replaced or deleted since are never returned from it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from clara_search.errors import DatabaseError, QueryError
from clara_search.files import confined
from clara_search.retrieval.ann import tuning
from clara_search.retrieval.ann.files import (
    FORMAT_VERSION,
    MAX_K,
    MAX_META_BYTES,
    META_FILE,
    OWN_FILE,
    ROW_COLUMNS,
    AnnMeta,
    index_folder,
    meta_path,
    read_files,
    write_files,
)
from clara_search.retrieval.ann.registry import AUTO, default_backend, load_backend
from clara_search.retrieval.ann.search import AnnIndex
from clara_search.retrieval.snapshot import Snapshot
from clara_search.store.table import Table


@dataclass(frozen=True)
class AnnStatus:
    """An index compared with its table.

    Attributes:
        meta: The description of the index.
        num_indexed_rows: Rows of the table that the index covers.
        num_unindexed_rows: Rows added or replaced since the build: they are searched exactly.
        num_stale_rows: Rows of the index that were replaced or deleted since.
    """

    meta: AnnMeta
    num_indexed_rows: int
    num_unindexed_rows: int
    num_stale_rows: int

    def as_dict(self) -> dict[str, Any]:
        """Return the fields that `ann status --json` prints."""
        values = asdict(self)
        meta = values.pop("meta")
        del meta["checksums"]
        return {**meta, **values}


def build(
    table: Table,
    backend: str = AUTO,
    target_recall: float = 0.95,
    k: int = 10,
    encode: tuning.Encode | None = None,
    texts: Sequence[str] | None = None,
) -> AnnStatus:
    """Build the index of a table; it replaces the present one.

    Args:
        table: A table with rows.
        backend: Name of a backend: "flat" is exact, "ivf" visits some lists of neighbours; "auto" is "flat" below
            20,000 rows, else "ivf".
        target_recall: The effort for each kind of query is the smallest that reaches this recall@k, above 0 and at most
            1.
        k: Number of hits that recall counts.
        encode: Embeds texts as the table's encoder does; None: searches by texts are tuned only in tables that hold
            rows of texts.
        texts: What people search for, to tune searches by texts with; None: the texts of the table.

    Returns:
        The status of the new index. The recall in its `meta.tuning` can be below the target.

    Raises:
        QueryError: The table is empty, the backend unknown, the target or `k` out of bounds, or `texts` are none or
            without `encode`.
        DatabaseError: The index cannot be written.
    """
    if not 0 < target_recall <= 1:
        raise QueryError(f"the target recall must lie between 0 and 1, got {target_recall}")
    if not 1 <= k <= MAX_K:
        raise QueryError(f"k must lie between 1 and {MAX_K:,}, got {k}")
    if texts is not None and (encode is None or not texts):
        raise QueryError("texts to tune with need an encoder" if texts else "there are no texts to tune with")
    snapshot = Snapshot.read(table, vectors=True)
    if not len(snapshot):
        raise QueryError(f"table '{table.name}' is empty: there is nothing to build an index over")
    name = default_backend(len(snapshot)) if backend == AUTO else backend
    queries = tuning.sample_queries(snapshot, encode, texts)
    index = load_backend(name).build(snapshot.vectors)
    tuned: dict[str, tuning.Tuning] = {
        kind: tuning.tune(index, snapshot, of_kind, k, target_recall) for kind, of_kind in queries.items()
    }
    rows = snapshot.columns.select(list(ROW_COLUMNS))
    folder = confined.make_folder(table.connection.path, index_folder(table))
    with table.connection.lock(f"_ann_{table.name}"):
        checksums = write_files(table, folder, index, rows)
        meta = AnnMeta(
            format_version=FORMAT_VERSION,
            backend=name,
            params=dict(index.params),
            fingerprint=table.info.fingerprint,
            table_version=snapshot.version,
            num_rows=len(snapshot),
            k=k,
            target_recall=target_recall,
            tuning=tuned,
            checksums=checksums,
        )
        # The rename publishes the index as a whole: readers see the old one or the new one.
        temporary = folder / f"{uuid.uuid4().hex}.tmp"
        temporary.write_text(json.dumps(asdict(meta), indent=1), encoding="utf-8")
        confined.rename(table.connection.path, temporary, meta_path(table))
        confined.delete_files(table.connection.path, folder, OWN_FILE, keep={*checksums, META_FILE})
    return AnnStatus(meta, num_indexed_rows=len(snapshot), num_unindexed_rows=0, num_stale_rows=0)


def status(table: Table) -> AnnStatus | None:
    """Compare the index of a table with the table.

    Args:
        table: The table.

    Returns:
        The status, or None for a table without an index.

    Raises:
        DatabaseError: The index is damaged.
    """
    index = load(table)
    if index is None:
        return None
    coverage = index.coverage(Snapshot.read(table, vectors=False))
    indexed = int((coverage.positions >= 0).sum())
    return AnnStatus(index.meta, indexed, len(coverage.unindexed), num_stale_rows=index.meta.num_rows - indexed)


def drop(table: Table) -> bool:
    """Delete the index of a table, damaged or not. Files that no index wrote stay, with a warning.

    Args:
        table: The table.

    Returns:
        Whether the table had an index.

    Raises:
        DatabaseError: The folder of the index is a link, or holds one.
    """
    root, folder = table.connection.path, index_folder(table)
    if not confined.check_tree(root, folder).is_dir():
        return False
    with table.connection.lock(f"_ann_{table.name}"):
        confined.delete_file(root, meta_path(table))  # first: no description names files that are deleted
        if not confined.delete_files(root, folder, OWN_FILE):
            confined.remove_folder(root, folder)
    return True


def version_token(table: Table) -> bytes | None:
    """Return a token that changes whenever the index of a table is built or dropped; None without an index."""
    return confined.read_bytes(table.connection.path, meta_path(table), MAX_META_BYTES)


def load(table: Table) -> AnnIndex | None:
    """Load the index of a table.

    Args:
        table: The table.

    Returns:
        The index in memory, or None for a table without one.

    Raises:
        DatabaseError: The index is damaged.
    """
    while (before := version_token(table)) is not None:
        try:
            return AnnIndex(*read_files(table, before))
        except DatabaseError:
            if version_token(table) == before:  # otherwise another process replaced it while it was read
                raise
    return None

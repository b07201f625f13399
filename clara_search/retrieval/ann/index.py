"""The ANN index of a table: built on request, tuned to a measured recall, checked when loaded.

An index is derived data: it lies in `_ann/<table>/` of the database and can be dropped and built again; it changes
nothing in results but their recall. It keeps the state of each row that it covers: rows added or replaced since the
build are searched exactly and merged, rows replaced or deleted since are never returned from it.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clara_search.errors import DatabaseError, QueryError
from clara_search.files import confined
from clara_search.models.base import Embeddings
from clara_search.retrieval.ann import tuning
from clara_search.retrieval.ann.base import AnnBackend, Labels
from clara_search.retrieval.ann.files import (
    FORMAT_VERSION,
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
from clara_search.retrieval.exact.scan import TIE, RowPositions, best_scores, cosines, rank_rows
from clara_search.retrieval.snapshot import UPDATED_AT, Snapshot
from clara_search.store.table import ROW_ID, Table

_MARGIN = 8
"""Rows that are searched beyond the k nearest, to see whether some are equal to the last; then times as many."""


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


def build(table: Table, backend: str = AUTO, target_recall: float = 0.95) -> AnnStatus:
    """Build the index of a table; it replaces the present one.

    Args:
        table: A table with rows.
        backend: Name of a backend: "flat" is exact, "ivf" visits some lists of neighbours; "auto" is "flat" below
            20,000 rows, else "ivf".
        target_recall: The backend's effort is the smallest that reaches this recall@10, above 0 and at most 1.

    Returns:
        The status of the new index. Its `meta.recall` can be below the target.

    Raises:
        QueryError: The table is empty, the backend unknown, or the target out of bounds.
        DatabaseError: The index cannot be written.
    """
    if not 0 < target_recall <= 1:
        raise QueryError(f"the target recall must lie between 0 and 1, got {target_recall}")
    snapshot = Snapshot.read(table, vectors=True)
    vectors = snapshot.vectors
    if not len(snapshot):
        raise QueryError(f"table '{table.name}' is empty: there is nothing to build an index over")
    name = default_backend(len(snapshot)) if backend == AUTO else backend
    index = load_backend(name).build(vectors)
    queries = tuning.sample_queries(snapshot)
    effort, recall = tuning.tune(index, snapshot, queries, target_recall)
    rows = snapshot.columns.select(list(ROW_COLUMNS))
    folder = confined.make_folder(table.connection.path, index_folder(table))
    with table.connection.lock(f"_ann_{table.name}"):
        checksums = write_files(table, folder, index, rows)
        meta = AnnMeta(
            format_version=FORMAT_VERSION,
            backend=name,
            params=dict(index.params),
            effort=effort,
            fingerprint=table.info.fingerprint,
            table_version=snapshot.version,
            num_rows=len(snapshot),
            target_recall=target_recall,
            recall=recall,
            measured_with=snapshot.columns["kind"][int(queries[0])].as_py(),
            measured_queries=len(queries),
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


@dataclass(frozen=True)
class Coverage:
    """The rows that an index and a snapshot share.

    Attributes:
        positions: For each row of the index its position in the snapshot, -1 where it was replaced or deleted.
        unindexed: The positions in the snapshot that the index does not cover.
    """

    positions: RowPositions
    unindexed: RowPositions
    _cache: list[Embeddings] = field(default_factory=list, repr=False)

    def unindexed_vectors(self, snapshot: Snapshot) -> Embeddings:
        """Return the vectors of the rows `unindexed` of `snapshot`, read once."""
        if not self._cache:
            self._cache.append(snapshot.vectors_at(self.unindexed))
        return self._cache[0]


@dataclass(frozen=True)
class AnnIndex:
    """An ANN index in memory.

    Attributes:
        meta: Its description.
        backend: The index over the vectors.
        rows: ROW_COLUMNS of each vector's row.
    """

    meta: AnnMeta
    backend: AnnBackend
    rows: pa.Table

    def coverage(self, snapshot: Snapshot) -> Coverage:
        """Find the rows of the index in `snapshot`, each in the very state in which it was indexed."""
        positions = snapshot.positions(self.rows[ROW_ID].to_numpy().astype(np.int64))
        present = np.flatnonzero(positions >= 0)
        now = snapshot.columns.take(pa.array(positions[present]))
        then = self.rows.take(pa.array(present))
        # Id and content guard against another table of the same name, whose row ids start anew.
        for name in (UPDATED_AT, "id", "content_hash"):
            same = pc.equal(now[name], then[name]).to_numpy().astype(bool)
            positions[present[~same]] = -1
        is_indexed = np.zeros(len(snapshot), dtype=bool)
        is_indexed[positions[positions >= 0]] = True
        return Coverage(positions, np.flatnonzero(~is_indexed))

    def search(
        self, queries: Embeddings, k: int, snapshot: Snapshot, coverage: Coverage
    ) -> list[tuple[RowPositions, npt.NDArray[np.float64]]]:
        """Search the index, and the unindexed rows exactly.

        Args:
            queries: Unit vectors, shape (q, dim).
            k: Number of hits.
            snapshot: The table.
            coverage: That of `snapshot`.

        Returns:
            For each query the positions in `snapshot` of its best `k` rows, best first, and their scores.
        """
        current = coverage.positions >= 0
        results = []
        for query, labels in zip(queries, self._search_indexed(queries, k, current), strict=True):
            positions, vectors = coverage.positions[labels], self.backend.reconstruct(labels)
            if len(coverage.unindexed):
                unindexed = coverage.unindexed_vectors(snapshot)
                near = best_scores(cosines(query[np.newaxis], unindexed)[0], k)
                positions = np.concatenate([positions, coverage.unindexed[near]])
                vectors = np.concatenate([vectors, unindexed[near]])
            results.append(rank_rows(query, vectors, positions, k, snapshot.order))
        return results

    def _search_indexed(self, queries: Embeddings, k: int, current: npt.NDArray[np.bool_]) -> list[Labels]:
        """Return the row numbers of the `k` nearest rows of each query, with all that may be equal to the last one."""
        available = int(current.sum())
        k = min(k, available)
        if not k:
            return [np.zeros(0, np.int64) for _ in queries]
        subset = None if current.all() else current
        found: list[Labels] = [np.zeros(0, np.int64)] * len(queries)
        pending, effort, depth = np.arange(len(queries)), self.meta.effort, min(k + _MARGIN, available)
        while len(pending):
            scores, labels = self.backend.search(queries[pending], depth, effort, subset)
            is_short = (labels[:, k - 1] < 0) & (effort != self.backend.efforts[-1])  # fewer than k rows at this effort
            # The rows after the last of a run of equal ones are known to score less; there may be none.
            is_complete = (labels[:, -1] < 0) | (scores[:, -1] < scores[:, k - 1] - TIE) | (depth == available)
            for number in np.flatnonzero(is_complete & ~is_short):
                found[pending[number]] = labels[number][labels[number] >= 0]
            if is_short.any():
                again = AnnIndex(replace(self.meta, effort=self.backend.efforts[-1]), self.backend, self.rows)
                numbers = pending[is_short]
                for number, result in zip(numbers, again._search_indexed(queries[numbers], k, current), strict=True):
                    found[number] = result
            pending = pending[~is_complete & ~is_short]
            depth = min(depth * _MARGIN, available)
        return found

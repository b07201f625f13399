"""Rank the rows of a table by query vectors: exactly, or by its ANN index. Knows no encoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from clara_search.models.base import Embeddings
from clara_search.retrieval.ann import index as ann
from clara_search.retrieval.exact import RowPositions, top_k
from clara_search.retrieval.options.base import RowFilter
from clara_search.retrieval.snapshot import Snapshot
from clara_search.store.table import Table

RankedRows = tuple[RowPositions, npt.NDArray[np.float64]]
"""Positions in a snapshot, best first, and their scores, both of shape (k,)."""


class Searcher:
    """A table and its ANN index in memory. Both are read again after a commit or a build, at the next search."""

    def __init__(self, table: Table):
        self.table = table
        self._snapshot: Snapshot | None = None
        self._ann: tuple[bytes | None, ann.AnnIndex | None] = (None, None)
        self._coverage: tuple[ann.AnnIndex, Snapshot, ann.Coverage] | None = None

    def search(
        self, queries: Embeddings, k: int, row_filters: Sequence[RowFilter] = (), exact: bool = False
    ) -> tuple[Snapshot, list[RankedRows]]:
        """Rank rows by their cosine with each query; equal scores by id.

        Args:
            queries: Unit vectors, shape (q, dim).
            k: Number of rows for each, at least 1.
            row_filters: Only rows that pass all of them; queries with filters are exact.
            exact: Whether to compare with every row.

        Returns:
            The version of the table that was searched, and the best rows for each query.

        Raises:
            QueryError: A filter does not fit the table.
            DatabaseError: The table cannot be read, or its ANN index is damaged.
        """
        index = None if exact or row_filters else self.ann_index()
        if index is not None:
            return self._search_ann(index, queries, k)
        snapshot, allowed = self.filter_rows(row_filters) if row_filters else (self._read_snapshot(vectors=True), None)
        assert snapshot.vectors is not None
        return snapshot, top_k(queries, snapshot.vectors, k, snapshot.order, allowed)

    def filter_rows(self, row_filters: Sequence[RowFilter]) -> tuple[Snapshot, RowPositions]:
        """Return the table with its vectors, and the positions of the rows that pass all filters, ascending."""
        snapshot = self._read_snapshot(vectors=True)
        mask = np.ones(len(snapshot), dtype=bool)
        for row_filter in row_filters:
            mask &= row_filter.mask(self.table, snapshot)
        return snapshot, np.flatnonzero(mask)

    def ann_index(self) -> ann.AnnIndex | None:
        """Return the table's ANN index, read again only after it was built or dropped."""
        token = ann.version_token(self.table)
        if token != self._ann[0]:
            self._ann = (token, ann.load(self.table))
        return self._ann[1]

    def _read_snapshot(self, vectors: bool) -> Snapshot:
        """Return the newest version of the table, read again only after a commit."""
        snapshot = self._snapshot
        if snapshot is None or snapshot.version != self.table.version or (vectors and snapshot.vectors is None):
            snapshot = self._snapshot = Snapshot.read(self.table, vectors)
        return snapshot

    def _search_ann(self, index: ann.AnnIndex, queries: Embeddings, k: int) -> tuple[Snapshot, list[RankedRows]]:
        snapshot = self._read_snapshot(vectors=False)
        if self._coverage_of(index, snapshot).unindexed.size:
            snapshot = self._read_snapshot(vectors=True)
        return snapshot, index.search(queries, k, snapshot, self._coverage_of(index, snapshot))

    def _coverage_of(self, index: ann.AnnIndex, snapshot: Snapshot) -> ann.Coverage:
        if self._coverage is None or self._coverage[0] is not index or self._coverage[1] is not snapshot:
            self._coverage = (index, snapshot, index.coverage(snapshot))
        return self._coverage[2]

"""Rank the rows of a table by query vectors: exactly, or by its ANN index. Knows no encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import RLock

import numpy as np
import numpy.typing as npt

from clara_search.models.base import Embeddings
from clara_search.retrieval.ann import index as ann
from clara_search.retrieval.ann.search import AnnIndex, Coverage
from clara_search.retrieval.exact.scan import RowPositions, rank_rows, top_k
from clara_search.retrieval.options.base import RowFilter
from clara_search.retrieval.query import Query
from clara_search.retrieval.ranked import RankedRows
from clara_search.retrieval.snapshot import Snapshot
from clara_search.store.table import Table

_FEW_ROWS = 0.1
"""The share of rows up to which a filtered query reads single vectors from the disk, not all of them."""


class Searcher:
    """A table and its ANN index in memory. Both are read again after a commit or a build, at the next search.

    Args:
        table: The table.

    Attributes:
        table: The table.
        judge: Gives the best rows of a query their probabilities; None: they have none.
    """

    def __init__(self, table: Table):
        self.table = table
        self.judge: Callable[[Query, Snapshot, RankedRows], RankedRows] | None = None
        self._lock = RLock()
        self._snapshot: Snapshot | None = None
        self._ann: tuple[bytes | None, AnnIndex | None] = (None, None)
        self._coverage: tuple[AnnIndex, Snapshot, Coverage] | None = None

    @property
    def names(self) -> tuple[str, str]:
        """The location of the database, and the name of the table."""
        return self.table.connection.location, self.table.name

    def search(
        self,
        snapshot: Snapshot,
        queries: Embeddings,
        k: int,
        allowed: RowPositions | None = None,
        exact: bool = False,
        direction: str | None = None,
    ) -> list[RankedRows]:
        """Rank rows by their cosine with each query; equal scores by id.

        Args:
            snapshot: The version of the table to search, from `snapshot`.
            queries: Unit vectors, shape (q, dim).
            k: Number of rows for each, at least 1.
            allowed: Positions that may be returned, from `filter_rows`: then the search is exact. None for all.
            exact: Whether to compare with every row.
            direction: What all queries were made of, "text" or "audio": an ANN index is tuned for either.

        Returns:
            The best rows for each query.

        Raises:
            DatabaseError: The table cannot be read, or its ANN index is damaged.
        """
        index = None if exact or allowed is not None else self.ann_index()
        if index is not None:
            ranked = index.search(queries, k, snapshot, self._coverage_of(index, snapshot), direction)
        else:
            ranked = _top_k(queries, snapshot, k, allowed)
        return [RankedRows(*rows, allowed=allowed) for rows in ranked]

    def filter_rows(self, snapshot: Snapshot, row_filters: Sequence[RowFilter]) -> RowPositions | None:
        """Return the positions of the rows that pass all filters, ascending; None without filters.

        Raises:
            QueryError: A filter does not fit the table.
        """
        if not row_filters:
            return None
        mask = np.ones(len(snapshot), dtype=bool)
        for row_filter in row_filters:
            mask &= row_filter.mask(snapshot.table, snapshot)
        return np.flatnonzero(mask)

    def ann_index(self) -> AnnIndex | None:
        """Return the table's ANN index, read again only after it was built or dropped."""
        with self._lock:
            token = ann.version_token(self.table)
            if token != self._ann[0]:
                self._ann = (token, ann.load(self.table))
            return self._ann[1]

    def snapshot(self) -> Snapshot:
        """Return the newest version of the table, read again only after a commit."""
        with self._lock:
            if self._snapshot is None or not self.table.is_at(self._snapshot.state):
                has_vectors = self._snapshot is not None and self._snapshot.has_vectors
                self._snapshot = None  # two versions need not fit into the memory
                self._snapshot = Snapshot.read(self.table, has_vectors)
            return self._snapshot

    def forget_old_version(self) -> bool:
        """Drop what is in memory if the table has a newer version, and return whether it has."""
        with self._lock:
            if self._snapshot is not None and self.table.is_at(self._snapshot.state):
                return False
            self._snapshot = None
            return True

    def _coverage_of(self, index: AnnIndex, snapshot: Snapshot) -> Coverage:
        with self._lock:
            if self._coverage is None or self._coverage[0] is not index or self._coverage[1] is not snapshot:
                self._coverage = (index, snapshot, index.coverage(snapshot))
            return self._coverage[2]


def _top_k(
    queries: Embeddings, snapshot: Snapshot, k: int, allowed: RowPositions | None
) -> list[tuple[RowPositions, npt.NDArray[np.float64]]]:
    """Return the nearest of all rows, or of the rows `allowed`; where these are few, their vectors alone are read."""
    if allowed is not None and not snapshot.has_vectors and len(allowed) <= _FEW_ROWS * len(snapshot):
        ranked = top_k(queries, snapshot.vectors_at(allowed), k, snapshot.order[allowed])
        return [(allowed[positions], scores) for positions, scores in ranked]
    if len(queries) == 1 and (quantized := snapshot.quantized()) is not None:
        positions = quantized.candidates(queries[0], snapshot.vectors, k, allowed)
        if positions is not None:
            return [rank_rows(queries[0], snapshot.vectors[positions], positions, k, snapshot.order)]
    return top_k(queries, snapshot.vectors, k, snapshot.order, allowed)

"""An ANN index in memory: its answers, merged with those of the rows that it does not cover."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clara_search.models.base import Embeddings
from clara_search.retrieval.ann.base import AnnBackend, Labels
from clara_search.retrieval.ann.files import AnnMeta
from clara_search.retrieval.exact.scan import TIE, RowPositions, best_scores, cosines, rank_rows
from clara_search.retrieval.snapshot import UPDATED_AT, Snapshot
from clara_search.store.table import ROW_ID

_MARGIN = 8
"""Rows that are searched beyond the k nearest, to see whether some are equal to the last; then times as many."""


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
        self, queries: Embeddings, k: int, snapshot: Snapshot, coverage: Coverage, direction: str | None = None
    ) -> list[tuple[RowPositions, npt.NDArray[np.float64]]]:
        """Search the index, and the unindexed rows exactly.

        Args:
            queries: Unit vectors, shape (q, dim).
            k: Number of hits.
            snapshot: The table.
            coverage: That of `snapshot`.
            direction: What the queries were made of, "text" or "audio", for the effort; None: something else.

        Returns:
            For each query the positions in `snapshot` of its best `k` rows, best first, and their scores.
        """
        current = coverage.positions >= 0
        results = []
        found = self._search_indexed(queries, k, current, self.meta.effort(direction))
        for query, labels in zip(queries, found, strict=True):
            positions, vectors = coverage.positions[labels], self.backend.reconstruct(labels)
            if len(coverage.unindexed):
                unindexed = coverage.unindexed_vectors(snapshot)
                near = best_scores(cosines(query[np.newaxis], unindexed)[0], k)
                positions = np.concatenate([positions, coverage.unindexed[near]])
                vectors = np.concatenate([vectors, unindexed[near]])
            results.append(rank_rows(query, vectors, positions, k, snapshot.order))
        return results

    def _search_indexed(self, queries: Embeddings, k: int, current: npt.NDArray[np.bool_], effort: int) -> list[Labels]:
        """Return the row numbers of the `k` nearest rows of each query, with all that may be equal to the last one."""
        available = int(current.sum())
        k = min(k, available)
        if not k:
            return [np.zeros(0, np.int64) for _ in queries]
        subset = None if current.all() else current
        found: list[Labels] = [np.zeros(0, np.int64)] * len(queries)
        pending, depth = np.arange(len(queries)), min(k + _MARGIN, available)
        while len(pending):
            scores, labels = self.backend.search(queries[pending], depth, effort, subset)
            is_short = (labels[:, k - 1] < 0) & (effort != self.backend.efforts[-1])  # fewer than k rows at this effort
            # The rows after the last of a run of equal ones are known to score less; there may be none.
            is_complete = (labels[:, -1] < 0) | (scores[:, -1] < scores[:, k - 1] - TIE) | (depth == available)
            for number in np.flatnonzero(is_complete & ~is_short):
                found[pending[number]] = labels[number][labels[number] >= 0]
            if is_short.any():
                numbers = pending[is_short]
                again = self._search_indexed(queries[numbers], k, current, self.backend.efforts[-1])
                for number, result in zip(numbers, again, strict=True):
                    found[number] = result
            pending = pending[~is_complete & ~is_short]
            depth = min(depth * _MARGIN, available)
        return found

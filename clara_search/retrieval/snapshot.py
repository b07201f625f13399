"""One version of a table in memory: a query costs a matrix product instead of a scan of the disk."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clara_search.models.base import Embeddings
from clara_search.retrieval.exact.quantized import QuantizedVectors
from clara_search.retrieval.exact.scan import RowPositions
from clara_search.retrieval.recordings import Recordings, mean_vector
from clara_search.store.table import ROW_ID, Table
from clara_search.store.words import index as word_index

UPDATED_AT = "_row_last_updated_at_version"
"""A column of Lance's own, which with ROW_ID names one state of a row."""

_QUANTIZED_SIZE = 1 << 23  # numbers: 16,000 rows of 512; below, a scan takes no time to speak of
_QUANTIZED_AFTER = 32  # queries: about what quantizing costs


class Snapshot:
    """The rows of a table at one version, addressed by their positions 0 ... n - 1.

    Args:
        table: The table, pinned to the version.
        state: The state of the table at that version, as `Table.state` gives it.
        columns: All columns but the vector, with ROW_ID and UPDATED_AT, in one chunk.

    Attributes:
        table: As above.
        state: As above.
        columns: As above.
    """

    def __init__(self, table: Table, state: tuple[int, ...], columns: pa.Table):
        self.table = table
        self.state = state
        self.columns = columns
        self._vectors: Embeddings | None = None
        self._lock = Lock()
        self._quantized: QuantizedVectors | None = None
        self._quantizing = Lock()
        self._queries = 0

    @classmethod
    def read(cls, table: Table, vectors: bool) -> Snapshot:
        """Read the newest version of a table.

        Args:
            table: The table.
            vectors: Whether to read its vectors at once; otherwise they are read when they are first used.

        Returns:
            All its rows.

        Raises:
            DatabaseError: The table's files are damaged.
        """
        # Asked for before the scan: after a commit in between, the next query sees another state and reads again.
        state = table.state
        pinned = table.pin()
        names = [name for name in pinned.schema.names if name != "vector"]
        snapshot = cls(pinned, state, pinned.scan([*names, ROW_ID, UPDATED_AT]).combine_chunks())
        if vectors:
            snapshot.vectors  # noqa: B018 - reads them
        return snapshot

    @property
    def version(self) -> int:
        """The Lance version."""
        return self.state[0]

    @property
    def has_vectors(self) -> bool:
        """Whether all vectors are in memory."""
        return self._vectors is not None

    @property
    def vectors(self) -> Embeddings:
        """All unit vectors, shape (n, dim), read at first use."""
        with self._lock:
            if self._vectors is None:
                # Filled batch by batch: joining the parts would take the memory twice.
                vectors = np.empty((len(self), self.table.info.dim), dtype=np.float32)
                for row_ids, matrix in self.table.vector_batches():
                    vectors[self.positions(row_ids)] = matrix
                self._vectors = vectors
        return self._vectors

    def quantized(self) -> QuantizedVectors | None:
        """Return `vectors` in int8; None in a small table, and before the queries are many enough to pay for them.

        Ask once a query.
        """
        if (
            self._quantized is None
            and self.vectors.size >= _QUANTIZED_SIZE
            and self._quantizing.acquire(blocking=False)
        ):
            try:
                self._queries += 1
                if self._quantized is None and self._queries > _QUANTIZED_AFTER:
                    self._quantized = QuantizedVectors(self.vectors)
            finally:
                self._quantizing.release()
        return self._quantized

    def vectors_at(self, positions: RowPositions) -> Embeddings:
        """Return the unit vectors of rows, read from the disk unless all are in memory.

        Args:
            positions: Positions of rows, shape (m,).

        Returns:
            Their vectors, shape (m, dim).

        Raises:
            DatabaseError: The table's files are damaged.
        """
        if self._vectors is not None:
            return self._vectors[positions]
        return self.table.vectors_of_rows(self.row_ids[positions])

    def __len__(self) -> int:
        return int(self.columns.num_rows)

    @cached_property
    def row_ids(self) -> npt.NDArray[np.int64]:
        """Lance's row id of each position."""
        return self.columns[ROW_ID].to_numpy().astype(np.int64)  # type: ignore[no-any-return]

    @cached_property
    def order(self) -> RowPositions:
        """The rank of each position in the order of `id`: it decides between equal scores."""
        ranks = np.empty(len(self), dtype=np.int64)
        ranks[pc.sort_indices(self.columns["id"]).to_numpy()] = np.arange(len(self))
        return ranks

    @cached_property
    def recordings(self) -> Recordings:
        """The windows of each recording."""
        return Recordings(self.columns)

    @property
    def has_texts(self) -> bool:
        """Whether a row has a text."""
        return bool(self.columns["text"].null_count < len(self))

    @cached_property
    def has_word_index(self) -> bool:
        """Whether this version of the table has a word index."""
        return word_index.is_built(self.table)

    @cached_property
    def mean_recording(self) -> Embeddings:
        """The mean vector of a window each of up to 256 recordings, the same in each search; shape (dim,)."""
        sample = self.recordings.sample(self.order)
        return mean_vector(self.vectors_at(sample) if len(sample) else np.empty((0, self.table.info.dim), np.float32))

    @cached_property
    def _by_row_id(self) -> RowPositions:
        return np.argsort(self.row_ids, kind="stable")

    def positions(self, row_ids: npt.NDArray[np.int64]) -> RowPositions:
        """Return the position of each row id, -1 for rows that the snapshot does not hold; both of shape (m,)."""
        if not len(self):
            return np.full(len(row_ids), -1, dtype=np.int64)
        slots = np.minimum(np.searchsorted(self.row_ids, row_ids, sorter=self._by_row_id), len(self) - 1)
        positions = self._by_row_id[slots]
        return np.where(self.row_ids[positions] == row_ids, positions, -1)

    def positions_of(self, ids: Iterable[str]) -> RowPositions:
        """Return the positions of the rows of these ids, ascending; ids without a row are ignored."""
        wanted = pa.array(list(ids), pa.string())
        return np.flatnonzero(pc.is_in(self.columns["id"], wanted).to_numpy())

    def kind_is(self, kind: str) -> npt.NDArray[np.bool_]:
        """Return a flag for each position: whether its row is of `kind`, "audio" or "text"."""
        return pc.equal(self.columns["kind"], kind).to_numpy().astype(bool)  # type: ignore[no-any-return]

    def rows(self, positions: RowPositions) -> list[dict[str, Any]]:
        """Return the rows at `positions`, in this order, as dicts of the table's columns without the vector."""
        rows: list[dict[str, Any]] = self._shown.take(pa.array(positions)).to_pylist()
        if self.table.info.relative_to:
            for row in rows:
                row["uri"] = self.table.names.show(row["uri"])
        return rows

    @cached_property
    def _shown(self) -> pa.Table | pa.RecordBatch:
        """The columns of hits: where they are in one chunk as a batch, of which taking some rows costs half."""
        shown = self.columns.drop_columns([ROW_ID, UPDATED_AT])
        batches = shown.to_batches()
        return batches[0] if len(batches) == 1 else shown

"""One version of a table in memory: a query costs a matrix product instead of a scan of the disk."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clara_search.models.base import Embeddings
from clara_search.retrieval.exact import RowPositions
from clara_search.store.table import Table

ROW_ID = "_rowid"
UPDATED_AT = "_row_last_updated_at_version"
"""Lance's own columns: a row id outlives updates and compaction, and with the second it names one state of a row."""


@dataclass(frozen=True)
class Snapshot:
    """The rows of a table at one version, addressed by their positions 0 ... n - 1.

    Attributes:
        version: The Lance version.
        columns: All columns but the vector, with ROW_ID and UPDATED_AT, in one chunk.
        vectors: Unit vectors, shape (n, dim); None where they were not read.
    """

    version: int
    columns: pa.Table
    vectors: Embeddings | None

    @classmethod
    def read(cls, table: Table, vectors: bool) -> Snapshot:
        """Read the newest version of a table.

        Args:
            table: The table.
            vectors: Whether to read its vectors.

        Returns:
            All its rows.

        Raises:
            DatabaseError: The table's files are damaged.
        """
        # Read before the scan: after a commit in between, the next query sees another version and reads again.
        version = table.version
        names = [name for name in table.schema.names if vectors or name != "vector"]
        columns = table.scan([*names, ROW_ID, UPDATED_AT])
        matrix = None
        if vectors:
            joined = columns["vector"].combine_chunks()
            matrix = np.asarray(joined.flatten().to_numpy(), dtype=np.float32).reshape(-1, table.info.dim)
            columns = columns.drop_columns(["vector"])
        return cls(version, columns.combine_chunks(), matrix)

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
    def _by_row_id(self) -> RowPositions:
        return np.argsort(self.row_ids, kind="stable")

    def positions(self, row_ids: npt.NDArray[np.int64]) -> RowPositions:
        """Return the position of each row id, -1 for rows that the snapshot does not hold; both of shape (m,)."""
        if not len(self):
            return np.full(len(row_ids), -1, dtype=np.int64)
        slots = np.minimum(np.searchsorted(self.row_ids, row_ids, sorter=self._by_row_id), len(self) - 1)
        positions = self._by_row_id[slots]
        return np.where(self.row_ids[positions] == row_ids, positions, -1)

    def kind_is(self, kind: str) -> npt.NDArray[np.bool_]:
        """Return a flag for each position: whether its row is of `kind`, "audio" or "text"."""
        return pc.equal(self.columns["kind"], kind).to_numpy().astype(bool)  # type: ignore[no-any-return]

    def rows(self, positions: RowPositions) -> list[dict[str, Any]]:
        """Return the rows at `positions`, in this order, as dicts of the table's columns without the vector."""
        selected = self.columns.drop_columns([ROW_ID, UPDATED_AT]).take(pa.array(positions))
        return selected.to_pylist()  # type: ignore[no-any-return]

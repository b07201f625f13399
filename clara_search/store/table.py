"""A corpus table: one row per window of a recording or per text, with its unit vector."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from clara_search.errors import DatabaseError, EncoderMismatch
from clara_search.store.keyed_table import KeyedTable
from clara_search.store.lance_errors import translate_read_errors
from clara_search.store.names import StoredNames
from clara_search.store.schema import TableInfo, read_info

if TYPE_CHECKING:
    import pyarrow as pa

    from clara_search.models.base import Embeddings, Encoder
    from clara_search.store.connection import Connection

ROW_ID = "_rowid"
"""A column of Lance's own: it outlives updates and compaction."""

_ROWS_PER_TAKE = 8192
_LAST_VERSION = (1 << 64) - 1  # Lance names manifests by their distance from it


def row_id(uri: str, start_s: float | None, end_s: float | None) -> str:
    """Return the id of a row, the same in every run.

    Args:
        uri: Path or URL of the source.
        start_s: Start of the window in seconds; None for a text.
        end_s: End of the window in seconds; None for a text.

    Returns:
        32 hex digits.
    """
    window = "" if start_s is None or end_s is None else f"{start_s:.6f}-{end_s:.6f}"
    return hashlib.sha256(f"{uri}\n{window}".encode()).hexdigest()[:32]


class Table(KeyedTable):
    """A corpus table: one row per window of a recording or per text, with its unit vector.

    Row ids are Lance's stable ones: a row keeps its id when it is updated and when the table is compacted.

    Args:
        connection: The database.
        name: Name of the table.

    Attributes:
        info: The encoder and the windows of the table.

    Raises:
        DatabaseError: The table cannot be opened, is of a later format, or is no corpus table.
    """

    info: TableInfo

    def __init__(self, connection: Connection, name: str):
        super().__init__(connection, name, key="id")
        self.info = read_info(self.schema, f"{connection.location}: table '{name}'")
        self._names = StoredNames.of(connection.path, self.info.relative_to)

    @property
    def names(self) -> StoredNames:
        """The names of its recordings, stored and as they are."""
        return self._names

    def __repr__(self) -> str:
        encoder, dim = self.info.model.name, self.info.dim
        return f"Table({self.name!r}, encoder={encoder!r}, dim={dim}, database={self.connection.location!r})"

    @property
    def state(self) -> tuple[int, ...]:
        """A token of the newest version that also changes when the table is dropped and made anew under its name."""
        version = self.version
        return (version, *self._version_files(version))

    def is_at(self, state: tuple[int, ...]) -> bool:
        """Return whether the table is in a state.

        On this machine its files tell, in microseconds: versions are numbered without gaps, and each commit writes the
        manifest of its version and a hint. LanceDB takes a tenth of a millisecond, more on a busy machine.

        Args:
            state: What the property `state` was.

        Returns:
            Whether nothing was committed since.
        """
        version, files = state[0], state[1:]
        if not files:
            return self.state == state
        return self._version_files(version) == files and not os.path.exists(self._manifest(version + 1))  # noqa: PTH110

    def _version_files(self, version: int) -> tuple[int, ...]:
        """Return what changes of the files of a version; nothing in an object store, or if they cannot be examined."""
        if self.connection.is_remote:
            return ()
        try:
            manifest = os.stat(self._manifest(version))  # noqa: PTH116 - once a query
            hint = os.stat(f"{self._versions}/latest_version_hint.json")  # noqa: PTH116
        except OSError:  # of another layout, or deleted meanwhile
            return ()
        return manifest.st_ino, manifest.st_mtime_ns, hint.st_ino, hint.st_mtime_ns

    def _manifest(self, version: int) -> str:
        return f"{self._versions}/{_LAST_VERSION - version:020}.manifest"

    @cached_property
    def _versions(self) -> str:
        return str(self.connection.path / f"{self.name}.lance" / "_versions")

    def pin(self) -> Table:
        """Open the newest version of the table, and stay with it whatever is committed.

        Returns:
            The table at that version, for reading.

        Raises:
            DatabaseError: The table cannot be opened any more.
            EncoderMismatch: It was made anew with another encoder.
        """
        pinned = Table(self.connection, self.name)
        if pinned.info.fingerprint != self.info.fingerprint:
            raise EncoderMismatch(
                f"table '{self.name}' was made anew with {pinned.info.model} since it was opened; open it again"
            )
        with translate_read_errors():
            pinned._lance.checkout(pinned.version)
        return pinned

    def check_encoder(self, encoder: Encoder) -> None:
        """Check that an encoder is the one that built the table.

        Args:
            encoder: The encoder.

        Raises:
            EncoderMismatch: It is another one.
        """
        if encoder.fingerprint != self.info.fingerprint:
            raise EncoderMismatch(
                f"table '{self.name}' was built by {self.info.model} ({self.info.fingerprint[:8]}...); "
                f"you opened it with {encoder.name} ({encoder.fingerprint[:8]}...), whose vectors are others: "
                "index the sources into a new table, or take the model that built this one"
            )

    def delete_ids(self, ids: Sequence[str]) -> int:
        """Delete rows by their `id`s.

        Args:
            ids: The ids; ids without a row are ignored.

        Returns:
            The number of deleted rows.

        Raises:
            DatabaseError: The table cannot be written.
        """
        return self.delete_keys(ids)

    def ids_and_vectors(self, where: str | None = None) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Read all vectors.

        Args:
            where: Only rows that pass this SQL filter.

        Returns:
            Lance's row ids, shape (n,), and unit vectors, shape (n, dim).

        Raises:
            QueryError: The filter cannot be used.
            DatabaseError: The table's files are damaged.
        """
        parts = list(self.vector_batches(where))
        row_ids = np.concatenate([np.empty(0, np.int64), *(ids for ids, _ in parts)])
        return row_ids, np.concatenate([np.empty((0, self.info.dim), np.float32), *(vectors for _, vectors in parts)])

    def vectors_of(self, ids: Sequence[str]) -> dict[str, npt.NDArray[np.float32]]:
        """Read vectors by `id`.

        Args:
            ids: The ids.

        Returns:
            For each id that the table holds its unit vector, shape (dim,).

        Raises:
            DatabaseError: The table's files are damaged.
        """
        vectors: dict[str, npt.NDArray[np.float32]] = {}
        for where in self.keys_in(ids):
            for batch in self.batches(["id", "vector"], where):
                vectors.update(zip(batch["id"].to_pylist(), self._matrix(batch), strict=True))
        return vectors

    def vector_batches(self, where: str | None = None) -> Iterator[tuple[npt.NDArray[np.int64], Embeddings]]:
        """Read vectors in batches: memory does not grow with the table.

        Args:
            where: Only rows that pass this SQL filter.

        Yields:
            Lance's row ids, shape (n,), and unit vectors, shape (n, dim).

        Raises:
            QueryError: The filter cannot be used.
            DatabaseError: The table's files are damaged.
        """
        for batch in self.batches(["vector", ROW_ID], where):
            yield _row_id_array(batch), self._matrix(batch)

    def vectors_of_rows(self, row_ids: npt.NDArray[np.int64]) -> Embeddings:
        """Read vectors by Lance's row ids.

        Args:
            row_ids: Different row ids, shape (n,).

        Returns:
            Their unit vectors, shape (n, dim).

        Raises:
            DatabaseError: A row was deleted since its id was read, or the table's files are damaged.
        """
        vectors = np.empty((len(row_ids), self.info.dim), dtype=np.float32)
        order = np.argsort(row_ids)
        for start in range(0, len(order), _ROWS_PER_TAKE):
            numbers = order[start : start + _ROWS_PER_TAKE]
            with translate_read_errors():
                query = self._lance.take_row_ids(row_ids[numbers].tolist())
                taken = query.select(["vector"]).with_row_id().to_arrow()
            if taken.num_rows != len(numbers):
                raise DatabaseError(f"table '{self.name}': rows were deleted while it was searched; search again")
            vectors[numbers] = self._matrix(taken.combine_chunks())[np.argsort(_row_id_array(taken))]
        return vectors

    def row_ids(self, where: str | None = None) -> npt.NDArray[np.int64]:
        """Read Lance's row ids.

        Args:
            where: Only rows that pass this SQL filter.

        Returns:
            Row ids, shape (n,), in no particular order.

        Raises:
            QueryError: The filter cannot be used.
            DatabaseError: The table's files are damaged.
        """
        return _row_id_array(self._scan(["start_s"], where, row_ids=True))

    def rows(self, row_ids: Sequence[int], columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Read rows by Lance's row ids.

        Args:
            row_ids: The row ids; one may be given several times.
            columns: The columns to read; by default all but the vector.

        Returns:
            The rows in the order of `row_ids`, as dicts.

        Raises:
            DatabaseError: A row was deleted since its id was read, or the table's files are damaged.
        """
        if columns is None:
            columns = [name for name in self.schema.names if name != "vector"]
        wanted = [int(row) for row in row_ids]
        if not wanted:
            return []
        # LanceDB returns rows in its own order, and leaves out unknown ids.
        with translate_read_errors():
            taken = self._lance.take_row_ids(sorted(set(wanted))).select(list(columns)).with_row_id().to_arrow()
        by_id = {row.pop("_rowid"): row for row in taken.to_pylist()}
        try:
            return [dict(by_id[row]) for row in wanted]
        except KeyError as error:
            message = f"table '{self.name}': row {error} was deleted while it was searched; search again"
            raise DatabaseError(message) from None

    def _matrix(self, rows: pa.Table | pa.RecordBatch) -> Embeddings:
        """Return the vectors of rows in one chunk, shape (n, dim)."""
        column = rows["vector"]
        values = (column.combine_chunks() if hasattr(column, "combine_chunks") else column).flatten()
        return values.to_numpy(zero_copy_only=False).reshape(-1, self.info.dim).astype(np.float32, copy=False)  # type: ignore[no-any-return]


def _row_id_array(rows: pa.Table | pa.RecordBatch) -> npt.NDArray[np.int64]:
    return np.asarray(rows[ROW_ID]).astype(np.int64)

"""A corpus table: one row per window of a recording or per text, with its unit vector."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from clara_search.errors import DatabaseError, EncoderMismatch
from clara_search.store.keyed_table import KeyedTable
from clara_search.store.lance_errors import translate_read_errors

if TYPE_CHECKING:
    import pyarrow as pa

    from clara_search.models.base import Encoder
    from clara_search.store.connection import Connection

FORMAT_VERSION = 1
CORE_COLUMNS = ("id", "kind", "uri", "start_s", "end_s", "text", "language", "content_hash", "vector")

_METADATA_PREFIX = "clara."


@dataclass(frozen=True)
class TableInfo:
    """The encoder and the windows of a table.

    Attributes:
        encoder: Name of the encoder that built the table.
        fingerprint: Its fingerprint.
        dim: Length of its vectors.
        window_s: Length of the windows that recordings are cut into, in seconds.
        hop_s: Seconds between the starts of windows.
        format_version: Version of the table's schema.
    """

    encoder: str
    fingerprint: str
    dim: int
    window_s: float
    hop_s: float
    format_version: int = FORMAT_VERSION


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
        self.info = _read_info(self.schema, f"{connection.location}: table '{name}'")

    def __repr__(self) -> str:
        info = self.info
        return f"Table({self.name!r}, encoder={info.encoder!r}, dim={info.dim}, database={self.connection.location!r})"

    def check_encoder(self, encoder: Encoder) -> None:
        """Check that an encoder is the one that built the table.

        Args:
            encoder: The encoder.

        Raises:
            EncoderMismatch: It is another one.
        """
        if encoder.fingerprint != self.info.fingerprint:
            raise EncoderMismatch(
                f"table '{self.name}' was built by {self.info.encoder} ({self.info.fingerprint[:8]}...); "
                f"you opened it with {encoder.name} ({encoder.fingerprint[:8]}...)"
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
        rows = self._scan(["vector"], where, row_ids=True)
        # A chunk becomes numpy without a copy; joining several takes one.
        chunks = [chunk.flatten().to_numpy().reshape(-1, self.info.dim) for chunk in rows["vector"].chunks]
        vectors = chunks[0] if len(chunks) == 1 else np.concatenate([np.empty((0, self.info.dim), np.float32), *chunks])
        return _row_id_array(rows), vectors

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
                matrix = batch["vector"].flatten().to_numpy(zero_copy_only=False).reshape(-1, self.info.dim)
                vectors.update(zip(batch["id"].to_pylist(), matrix.astype(np.float32), strict=True))
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
        with translate_read_errors(None):
            taken = self._lance.take_row_ids(sorted(set(wanted))).select(list(columns)).with_row_id().to_arrow()
        by_id = {row.pop("_rowid"): row for row in taken.to_pylist()}
        try:
            return [dict(by_id[row]) for row in wanted]
        except KeyError as error:
            message = f"table '{self.name}': row {error} was deleted while it was searched; search again"
            raise DatabaseError(message) from None


def corpus_schema(info: TableInfo, extra_fields: Sequence[pa.Field]) -> pa.Schema:
    """Return the Arrow schema of a corpus table, with `info` in its metadata.

    Args:
        info: The encoder and the windows.
        extra_fields: Further columns.

    Returns:
        The schema.
    """
    import pyarrow as pa

    types = {"start_s": pa.float64(), "end_s": pa.float64(), "vector": pa.list_(pa.float32(), info.dim)}
    required = {"id", "kind", "uri", "content_hash", "vector"}
    core = [pa.field(name, types.get(name, pa.string()), nullable=name not in required) for name in CORE_COLUMNS]
    metadata = {_METADATA_PREFIX + name: str(value) for name, value in asdict(info).items()}
    return pa.schema([*core, *extra_fields], metadata=metadata)


def _read_info(schema: pa.Schema, where: str) -> TableInfo:
    entries = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    try:
        version = int(entries[_METADATA_PREFIX + "format_version"])
        if version > FORMAT_VERSION:
            raise DatabaseError(
                f"{where} has format {version}, this clara-search reads up to {FORMAT_VERSION}: update it"
            )
        return TableInfo(
            encoder=entries[_METADATA_PREFIX + "encoder"],
            fingerprint=entries[_METADATA_PREFIX + "fingerprint"],
            dim=int(entries[_METADATA_PREFIX + "dim"]),
            window_s=float(entries[_METADATA_PREFIX + "window_s"]),
            hop_s=float(entries[_METADATA_PREFIX + "hop_s"]),
            format_version=version,
        )
    except (KeyError, ValueError) as error:
        raise DatabaseError(f"{where} was not made by clara-search (its schema lacks {error})") from error


def _row_id_array(rows: pa.Table) -> npt.NDArray[np.int64]:
    return rows["_rowid"].to_numpy().astype(np.int64)  # type: ignore[no-any-return]

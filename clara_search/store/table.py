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
    """What built a table: the encoder, and the windows that recordings are cut into, in seconds."""

    encoder: str
    fingerprint: str
    dim: int
    window_s: float
    hop_s: float
    format_version: int = FORMAT_VERSION


def row_id(uri: str, start_s: float | None, end_s: float | None) -> str:
    """Return the id of the row for a window of `uri`: 32 hex digits, the same in every run."""
    window = "" if start_s is None or end_s is None else f"{start_s:.6f}-{end_s:.6f}"
    return hashlib.sha256(f"{uri}\n{window}".encode()).hexdigest()[:32]


class Table(KeyedTable):
    """A corpus table: one row per window of a recording or per text, with its unit vector.

    Row ids are Lance's stable ones: a row keeps its own when it is updated and when the table is compacted.
    """

    info: TableInfo

    def __init__(self, connection: Connection, name: str):
        super().__init__(connection, name, key="id")
        self.info = _read_info(self.schema, f"{connection.location}: table '{name}'")

    def check_encoder(self, encoder: Encoder) -> None:
        """Raise EncoderMismatch, naming both, unless `encoder` is the one that built the table."""
        if encoder.fingerprint != self.info.fingerprint:
            raise EncoderMismatch(
                f"table '{self.name}' was built by {self.info.encoder} ({self.info.fingerprint[:8]}...); "
                f"you opened it with {encoder.name} ({encoder.fingerprint[:8]}...)"
            )

    def delete_ids(self, ids: Sequence[str]) -> int:
        """Delete the rows with these `id`s and return how many there were."""
        return self.delete_keys(ids)

    def ids_and_vectors(self, where: str | None = None) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return the row ids, shape (n,), and vectors, shape (n, dim), of the rows that pass the filter `where`."""
        found = self._scan(["vector"], where, row_ids=True)
        # A chunk becomes numpy without a copy; joining several takes one.
        chunks = [chunk.flatten().to_numpy().reshape(-1, self.info.dim) for chunk in found["vector"].chunks]
        vectors = chunks[0] if len(chunks) == 1 else np.concatenate([np.empty((0, self.info.dim), np.float32), *chunks])
        return _row_id_array(found), vectors

    def vectors_of(self, ids: Sequence[str]) -> dict[str, npt.NDArray[np.float32]]:
        """Return the vectors, shape (dim,), of the rows with these `id`s, by id; of others, nothing."""
        found: dict[str, npt.NDArray[np.float32]] = {}
        for where in self.keys_in(ids):
            for batch in self.batches(["id", "vector"], where):
                matrix = batch["vector"].flatten().to_numpy(zero_copy_only=False).reshape(-1, self.info.dim)
                found.update(zip(batch["id"].to_pylist(), matrix.astype(np.float32), strict=True))
        return found

    def row_ids(self, where: str | None = None) -> npt.NDArray[np.int64]:
        """Return the row ids of the rows that pass the SQL filter `where`. Raises QueryError if it is bad."""
        return _row_id_array(self._scan(["start_s"], where, row_ids=True))

    def rows(self, row_ids: Sequence[int], columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Return the rows with these row ids, in this order, as dicts of `columns` (default: all but the vector).

        Raises DatabaseError where one was deleted since its id was read.
        """
        if columns is None:
            columns = [name for name in self.schema.names if name != "vector"]
        wanted = [int(row) for row in row_ids]
        if not wanted:
            return []
        # LanceDB answers in its own order and leaves out what it does not know.
        with translate_read_errors(None):
            taken = self._lance.take_row_ids(sorted(set(wanted))).select(list(columns)).with_row_id().to_arrow()
        by_id = {row.pop("_rowid"): row for row in taken.to_pylist()}
        try:
            return [dict(by_id[row]) for row in wanted]
        except KeyError as error:
            message = f"table '{self.name}': row {error} was deleted while it was searched; search again"
            raise DatabaseError(message) from None


def corpus_schema(info: TableInfo, extra_fields: Sequence[pa.Field]) -> pa.Schema:
    """Return the Arrow schema of a corpus table; its metadata says what built it."""
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
        raise DatabaseError(f"{where} was not made by clara-search (its schema says no {error})") from error


def _row_id_array(found: pa.Table) -> npt.NDArray[np.int64]:
    return found["_rowid"].to_numpy().astype(np.int64)  # type: ignore[no-any-return]

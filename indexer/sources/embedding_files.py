"""Embeddings that were made elsewhere: `.npy` matrices beside Parquet files of metadata, as rows of a corpus table."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import parquet, types

from clara_search.audio.segments import parse_segment
from clara_search.errors import ClaraError, FormatError
from clara_search.files.gate import ForeignUri, admit
from clara_search.files.redact import without_credentials
from clara_search.models.base import Embeddings
from clara_search.store.schema import CORE_COLUMNS
from clara_search.store.table import row_id
from indexer.sources.columns import CAPTIONS_COLUMN, table_name
from indexer.sources.values import plain_value

EXPORT_MARK = b"clara.fingerprint"
"""In the metadata of Parquet files that `export_embeddings` wrote: the encoder of their table."""

_BATCH_ROWS = 8192
_URI_COLUMNS = ("uri", "path", "url", "audio_path", "image_path")
_TEXT_COLUMNS = ("text", "caption")
_ITEM_COLUMNS = ("kind", "start_s", "end_s", "language", "content_hash")
_HASH = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[0-9a-f]{32}")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmbeddingFiles:
    """A matrix and the metadata of its rows.

    Attributes:
        matrix: The `.npy` file, of shape (n, dim).
        metadata: The Parquet file, of n rows.
    """

    matrix: Path
    metadata: Path

    def batches(self, dim: int) -> Iterator[pa.Table]:
        """Yield the rows as a corpus table has them, with unit vectors.

        Raises:
            FormatError: The files cannot be read or do not fit together, or a row cannot be used.
        """
        matrix, rows = self._open()
        count = rows.metadata.num_rows
        if matrix.ndim != 2 or matrix.shape[1] != dim or len(matrix) != count:
            raise FormatError(
                f"{self.matrix} has shape {matrix.shape}, {self.metadata} has {count} rows: expected ({count}, {dim})"
            )
        schema = rows.schema_arrow
        read = _exported_rows if EXPORT_MARK in (schema.metadata or {}) else _foreign_rows
        start = 0
        for batch in rows.iter_batches(_BATCH_ROWS):
            _check_values(batch, self.metadata)
            vectors = to_unit_norm(matrix[start : start + batch.num_rows], f"{self.matrix}, row {start}")
            columns = read(_Batch(batch, self.metadata, start))
            columns["vector"] = pa.FixedSizeListArray.from_arrays(vectors.ravel(), dim)
            yield pa.table(columns)
            start += batch.num_rows

    def exported_schema(self) -> pa.Schema | None:
        """Return the schema of the table that was exported; None for files of another tool."""
        matrix, rows = self._open()
        schema = rows.schema_arrow
        if EXPORT_MARK not in (schema.metadata or {}):
            return None
        return schema.append(pa.field("vector", pa.list_(pa.float32(), matrix.shape[-1]), nullable=False))

    def sibling_files(self, folder: str) -> list[Path]:
        """Return the Parquet files in the `folder` that was exported beside these; none for files of another tool."""
        if self.exported_schema() is None:
            return []
        return sorted((self.metadata.parent.parent / folder).glob("*.parquet"))

    def _open(self) -> tuple[npt.NDArray[Any], parquet.ParquetFile]:
        try:
            return np.load(self.matrix, mmap_mode="r", allow_pickle=False), parquet.ParquetFile(self.metadata)
        except Exception as error:  # numpy raises nearly anything for a broken header
            raise FormatError(f"{self.matrix} or {self.metadata}: cannot be read ({error})") from error


def read_entries(path: Path) -> pa.Table:
    """Return the entries of a ledger that was exported. Raises FormatError if they cannot be read."""
    try:
        entries = parquet.read_table(path)
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise FormatError(f"{path}: cannot be read ({error})") from error
    _check_values(entries, path)
    return entries


def _check_values(rows: pa.RecordBatch | pa.Table, path: Path) -> None:
    """Check texts and offsets, which pyarrow itself believes. Raises FormatError."""
    try:
        rows.validate(full=True)
    except pa.ArrowInvalid as error:
        raise FormatError(f"{path}: cannot be read ({error})") from error


def to_unit_norm(matrix: npt.NDArray[Any], where: str) -> Embeddings:
    """Return vectors, shape (n, dim), scaled to unit norm.

    Raises:
        FormatError: They are no real numbers, or one is zero or not finite; the message begins with `where`.
    """
    if matrix.dtype.kind not in "fiu":
        raise FormatError(f"{where}: the vectors are {matrix.dtype}, expected real numbers")
    vectors = np.asarray(matrix, dtype=np.float64)
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0.0)
    bad = np.flatnonzero(~(np.isfinite(largest[:, 0]) & (largest[:, 0] > 0)))
    if len(bad):
        raise FormatError(f"{where} + {int(bad[0])}: the vector is zero or not finite")
    vectors = vectors / largest
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


class _Batch:
    """Rows of metadata, and where they are for errors."""

    def __init__(self, batch: pa.RecordBatch, file: Path, start: int):
        self.names: list[str] = batch.schema.names
        self.count = batch.num_rows
        self.file = file
        self._batch = batch
        self._start = start

    def where(self, number: int) -> str:
        return f"{self.file}, row {self._start + number}"

    def line(self, number: int) -> str:
        """Return the name of a row that names no recording, as a manifest has it."""
        return f"{self.file.absolute()}#L{self._start + number + 1}"

    def column(self, name: str) -> pa.Array:
        return self._batch[name]

    def values(self, name: str) -> list[Any]:
        """Return the values of a column, None where one is missing or NaN, or the column is not there."""
        if name not in self.names:
            return [None] * self.count
        return [None if value != value else value for value in self._batch[name].to_pylist()]

    def texts(self, name: str) -> list[str | None]:
        """Return the values of a column of texts. Raises FormatError for a value that is none."""
        values = self.values(name)
        for number, value in enumerate(values):
            if not isinstance(value, (str, type(None))):
                raise FormatError(f"{self.where(number)}: {name} is {value!r}, expected a text")
        return [value or None for value in values]

    def spans(self) -> tuple[list[float | None], list[float | None]]:
        """Return start and end of each row. Raises FormatError for a row with one of them alone, or no times."""
        starts, ends = self.values("start_s"), self.values("end_s")
        for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
            if start is None and end is None:
                continue
            try:
                if start is None or end is None:
                    raise ValueError(f"has {'end_s' if start is None else 'start_s'} alone: a window has both")
                starts[number], ends[number] = parse_segment(start, end)
            except ValueError as error:
                raise FormatError(f"{self.where(number)}: {error}") from error
        return starts, ends

    def hashes(self, uris: list[str], texts: list[str | None]) -> list[str]:
        """Return content hashes: those that are given, that of a text, or for want of the file that of its name."""
        hashes = self.texts("content_hash")
        for number, value in enumerate(hashes):
            if value is not None and not _HASH.fullmatch(value):
                raise FormatError(f"{self.where(number)}: content_hash {value!r} is no SHA-256 of 64 hex digits")
        # A hash of the name is that of no content: `index` sees another one, and embeds the recording.
        return [given or _hash(text or uri) for given, text, uri in zip(hashes, texts, uris, strict=True)]


def _exported_rows(batch: _Batch) -> dict[str, pa.Array]:
    """Return the columns of rows that were exported, as they are, after checking them."""
    if missing := [name for name in CORE_COLUMNS if name not in batch.names and name != "vector"]:
        raise FormatError(f"{batch.file}: an exported table lacks the column {missing[0]!r}")
    required = {name: batch.texts(name) for name in ("id", "kind", "uri", "content_hash")}
    for name, values in required.items():
        for number, value in enumerate(values):
            is_good = value in ("audio", "text") if name == "kind" else bool(value)
            if not is_good or (name == "id" and not _ID.fullmatch(value or "")):
                raise FormatError(f"{batch.where(number)}: {name} is {value!r}")
    batch.texts("text")
    batch.texts("language")
    batch.spans()
    return {name: batch.column(name) for name in batch.names if name != "vector"}


def _foreign_rows(batch: _Batch) -> dict[str, pa.Array]:
    """Return the columns of rows of another tool, under names that a table can have."""
    text_name = next((name for name in _TEXT_COLUMNS if name in batch.names), "text")
    texts, languages = batch.texts(text_name), batch.texts("language")
    starts, ends = batch.spans()
    named = {name: batch.texts(name) for name in _URI_COLUMNS if name in batch.names}
    firsts = [next(filter(None, values), None) for values in zip(*named.values(), strict=True)] or [None] * batch.count
    kinds, uris = list[str](), list[str]()
    for number, (name, text, given) in enumerate(zip(firsts, texts, batch.values("kind"), strict=True)):
        try:
            if name is None and text is None:
                raise FormatError("has neither a uri nor a text")
            kinds.append(_kind(given, name))
            uris.append(batch.line(number) if name is None else _admitted(name, batch.file))
        except ClaraError as error:
            raise FormatError(f"{batch.where(number)}: {error}") from error
    of_texts = [text if kind == "text" else None for text, kind in zip(texts, kinds, strict=True)]
    spans = [
        (None, None) if kind == "text" else span
        for kind, span in zip(kinds, zip(starts, ends, strict=True), strict=True)
    ]
    columns = {
        "id": pa.array([row_id(uri, *span) for uri, span in zip(uris, spans, strict=True)], pa.string()),
        "kind": pa.array(kinds, pa.string()),
        "uri": pa.array(uris, pa.string()),
        "start_s": pa.array(starts, pa.float64()),
        "end_s": pa.array(ends, pa.float64()),
        "text": pa.array(texts, pa.string()),
        "language": pa.array(languages, pa.string()),
        "content_hash": pa.array(batch.hashes(uris, of_texts), pa.string()),
    }
    own = {text_name, *_ITEM_COLUMNS, *(list(named)[:1])}
    for name in batch.names:
        if name == "kind" and batch.values("kind") != kinds:
            _add_further(columns, "source_kind", name, batch)
        elif name not in own:
            _add_further(columns, name if name == CAPTIONS_COLUMN else table_name(name), name, batch)
    return columns


def _kind(given: Any, name: str | None) -> str:
    """Return the kind of a row: as it is given, or by whether it names a recording; "speech" is a kind of audio."""
    kind = str(given).strip().lower() if given is not None else ""
    if kind == "audio" and name is None:
        raise FormatError("is audio, and names no recording")
    return kind if kind in ("audio", "text") else "text" if name is None else "audio"


def _admitted(name: str, file: Path) -> str:
    """Return the name of a recording: absolute, as one in a manifest, and without credentials."""
    return without_credentials(admit(ForeignUri(name, str(file.absolute()))))


def _add_further(columns: dict[str, pa.Array], stored: str, name: str, batch: _Batch) -> None:
    if stored in columns:
        raise FormatError(f"{batch.file}: two columns would be {stored!r}, one of them is {name!r}: rename it")
    array = _stored(batch.column(name))
    if array is None:  # holds nothing
        return
    if stored != name and batch.where(0).endswith("row 0"):
        _log.warning("%s: the column %r is kept as %r", batch.file, name, stored)
    columns[stored] = array


def _stored(array: pa.Array) -> pa.Array | None:
    """Return a column as a table holds it: Arrow's types, objects as JSON; None if it holds nothing."""
    kind = array.type
    if types.is_dictionary(kind):
        return _stored(array.dictionary_decode())
    if types.is_null(kind):
        return None
    if types.is_nested(kind) and not (types.is_list(kind) and not types.is_nested(kind.value_type)):
        return pa.array([None if value is None else plain_value(value) for value in array.to_pylist()], pa.string())
    return next((array.cast(wide) for applies, wide in _WIDE if applies(kind)), array)


_WIDE = (
    (types.is_uint64, pa.uint64()),
    (types.is_integer, pa.int64()),
    (types.is_floating, pa.float64()),
    (types.is_large_string, pa.string()),
    (types.is_string_view, pa.string()),
)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

"""Parquet and Arrow files, and tables in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import numpy as np

from clara_search.errors import FormatError
from clara_search.files.arrow_bodies import open_mapped
from clara_search.files.limits import BATCH_BYTES, MANIFEST_BYTES, MIB, ROW_BYTES
from clara_search.files.paths import is_url, open_source, suffix_of, unreadable
from clara_search.files.tables.parquet_pages import check_pages
from clara_search.files.tables.rows import ROWS_A_BLOCK, Block, Cell, OnError, check_width, raise_error
from clara_search.files.tables.samples import is_sample_struct, samples_of_scalar
from clara_search.files.tables.sizes import Sizes, value_bytes

if TYPE_CHECKING:
    import pyarrow as pa

_BYTES_A_BATCH = 16 * MIB
"""A batch of a Parquet file, and the values of a block, are about this large, if that is more than one row."""

_ROWS_A_SLICE = 1 << 16
_COPIED_AT_ONCE = 8 * MIB


def read_columnar(path: str, report: OnError = raise_error) -> Iterator[Block]:
    """Yield the rows of a Parquet or Arrow file; a file without rows is one empty block.

    A URL is copied to this machine first: parts of the file are read again and again.

    Args:
        path: Path or URL.
        report: Called with the error of each row that is larger than `ROW_BYTES`.

    Raises:
        FormatError: The file is broken, or would take more memory than `BATCH_BYTES`.
        SourceError: It cannot be read; `Unreachable` where it is a URL.
    """
    import pyarrow as pa

    try:
        with ExitStack() as stack:
            local = _copy(path, stack) if is_url(path) else path
            file = stack.enter_context(pa.memory_map(local))
            batches = _parquet_batches if suffix_of(path) == ".parquet" else _arrow_batches
            yield from _blocks(map(_checked, batches(file, path)), path, report)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        kind = "Parquet" if suffix_of(path) == ".parquet" else "Arrow"
        raise FormatError(f"{path}: not a readable {kind} file ({' '.join(str(error).split())})") from error
    except OSError as error:
        raise unreadable(path, error) from error


def read_arrow(table: pa.Table, report: OnError = raise_error) -> Iterator[Block]:
    """Yield the rows of an Arrow table in memory; a table without rows is one empty block."""
    batches = table.to_batches(max_chunksize=_ROWS_A_SLICE)
    return _blocks(iter(batches or [_empty(table.schema)]), "the table", report)


def _copy(url: str, stack: ExitStack) -> str:
    """Return the path of a copy of a URL, which is gone when the stack ends."""
    copy = stack.enter_context(tempfile.NamedTemporaryFile(prefix="clara-search-"))  # noqa: SIM115 - the stack closes it
    size = 0
    with closing(open_source(url)) as file:
        while content := file.read(_COPIED_AT_ONCE):
            size += len(content)
            MANIFEST_BYTES.check(size, url)
            copy.write(content)
    copy.flush()
    return copy.name


def _arrow_batches(file: Any, path: str) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of an Arrow file or stream; a schema without rows is one empty batch."""
    reader = open_mapped(file, path)
    check_width(reader.schema.names, path)
    is_empty = True
    for batch in reader:
        is_empty = False
        yield batch
    if is_empty:
        yield _empty(reader.schema)


def _parquet_batches(file: Any, path: str) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a Parquet file in record batches; a schema without rows is one empty batch."""
    from pyarrow import parquet

    table = parquet.ParquetFile(file)
    check_width(table.schema_arrow.names, path)
    file.seek(0)
    sizes = check_pages(table.metadata, file.read_buffer(), path)
    file.seek(0)
    if sizes.repeated:
        table = parquet.ParquetFile(file, read_dictionary=sizes.repeated)
    rows = min(_rows_a_batch(table.metadata), max(1, BATCH_BYTES.value // 2 // max(1, sizes.row)))
    is_empty = True
    for batch in table.iter_batches(rows):
        is_empty = False
        BATCH_BYTES.check(batch.nbytes, path)
        yield batch
    if is_empty:
        yield _empty(table.schema_arrow)


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    import pyarrow as pa

    return pa.RecordBatch.from_pylist([], schema=schema)


def _checked(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch of a file whose values can be read: pyarrow itself believes whatever offsets a file gives."""
    batch.validate(full=True)
    return batch


def _rows_a_batch(metadata: Any) -> int:
    """Return the number of rows that are read at once: few of recordings, many of numbers."""
    size = sum(int(metadata.row_group(number).total_byte_size) for number in range(metadata.num_row_groups))
    return max(1, min(ROWS_A_BLOCK, _BYTES_A_BATCH * max(1, int(metadata.num_rows)) // max(1, size)))


def _blocks(batches: Iterator[pa.RecordBatch], where: str, report: OnError) -> Iterator[Block]:
    first = 1
    for batch in batches:
        names, kinds = tuple(batch.schema.names), tuple(batch.schema.types)
        for start in range(0, max(1, batch.num_rows), _ROWS_A_SLICE):
            part = batch.slice(start, _ROWS_A_SLICE)
            for offset, count in _cuts(part, where, first, report):
                columns = [_values(column) for column in part.slice(offset, count).columns]
                rows = list(zip(*columns, strict=True)) if columns else [()] * count
                yield Block(names, kinds, range(first + offset, first + offset + count), rows)
            first += part.num_rows


def _cuts(part: pa.RecordBatch, where: str, first: int, report: OnError) -> Iterator[tuple[int, int]]:
    """Yield the start and number of the rows that are read at once; rows that are too large are reported.

    Args:
        part: The rows.
        where: Their file, for errors.
        first: The number of the first row.
        report: Called with each error.
    """
    sizes: Sizes = 0
    for column in part.columns:
        if not (is_binary(column.type) or is_audio_struct(column.type)):  # these are read one by one
            sizes = sizes + value_bytes(column, where)
    row_bytes = np.full(part.num_rows, sizes) if isinstance(sizes, int) else sizes
    large = np.flatnonzero(row_bytes > ROW_BYTES.value)
    ends = np.cumsum(row_bytes)
    start = 0
    for end in (*large.tolist(), part.num_rows):
        while start < end or not part.num_rows:
            before = int(ends[start - 1]) if start else 0
            count = int(np.searchsorted(ends, before + _BYTES_A_BATCH, "right")) - start
            count = min(max(1, count), ROWS_A_BLOCK, end - start)
            yield start, count
            start += count
            if not part.num_rows:
                return
        if end < part.num_rows:
            report(ROW_BYTES.exceeded(f"{where}, line {first + end}"))
            start = end + 1


def _values(column: pa.Array) -> list[Any]:
    """Return the values of a column: bytes and recordings as `Cell`s, NaN as None."""
    import pyarrow as pa
    from pyarrow import compute, types

    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return _values(column.storage)
    if types.is_dictionary(kind):
        return _values(column.dictionary_decode())
    if is_binary(kind):
        return [_cell(value) for value in column]
    if is_audio_struct(kind):
        return [_recording(value) for value in column]
    if types.is_floating(kind):
        wide = column.cast(pa.float32()) if types.is_float16(kind) else column  # older releases of Arrow need it
        column = compute.if_else(compute.is_nan(wide), pa.scalar(None, wide.type), wide)
    elif types.is_timestamp(kind) and kind.unit == "ns":  # Python's dates end at microseconds
        column = column.cast(pa.timestamp("us", kind.tz), safe=False)
    elif types.is_duration(kind) and kind.unit == "ns":
        column = column.cast(pa.duration("us"), safe=False)
    elif types.is_time64(kind) and kind.unit == "ns":
        column = column.cast(pa.time64("us"), safe=False)
    try:
        return column.to_pylist()  # type: ignore[no-any-return]
    except (OverflowError, ValueError):  # Python's dates end in the year 9999
        return column.cast(pa.string()).to_pylist()  # type: ignore[no-any-return]


def is_binary(kind: pa.DataType) -> bool:
    """Tell whether a column of this type holds bytes."""
    from pyarrow import types

    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    )


def is_audio_struct(kind: pa.DataType) -> bool:
    """Tell whether a column holds recordings of Hugging Face's `datasets`: structs of bytes and path, or decoded."""
    from pyarrow import types

    if not types.is_struct(kind):
        return False
    if is_sample_struct(kind):
        return True
    index = kind.get_field_index("bytes")
    return index >= 0 and (is_binary(kind.field(index).type) or types.is_null(kind.field(index).type))


def _cell(value: Any, name: str | None = None) -> Cell | None:
    return Cell(value, len(value.as_buffer()), name) if value.is_valid else None


def _recording(value: Any) -> Cell | str | None:
    """Return the recording in a struct, or its path where it holds no bytes."""
    if not value.is_valid:
        return None
    path = value["path"].as_py() if "path" in value else None
    if "bytes" not in value:
        return samples_of_scalar(value) or path or None
    return _cell(value["bytes"], path or None) or path or None

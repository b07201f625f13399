"""Parquet and Arrow files, and tables in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from clara_search.errors import FormatError
from clara_search.files.limits import BATCH_BYTES
from clara_search.files.paths import is_url, open_source, suffix_of, unreadable
from clara_search.files.tables.rows import ROWS_A_BLOCK, Block, Cell, check_width

if TYPE_CHECKING:
    import pyarrow as pa

_BYTES_A_BATCH = 16 << 20
"""A batch of a Parquet file is about this large, if that is more than one row."""


def read_columnar(path: str) -> Iterator[Block]:
    """Yield the rows of a Parquet or Arrow file; a file without rows is one empty block.

    Raises:
        FormatError: The file is broken.
        SourceError: It cannot be read; `Unreachable` where it is a URL.
    """
    import pyarrow as pa

    try:
        with ExitStack() as stack:
            yield from _blocks(map(_checked, _batches(path, stack)), path)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        kind = "Parquet" if suffix_of(path) == ".parquet" else "Arrow"
        raise FormatError(f"{path}: not a readable {kind} file ({' '.join(str(error).split())})") from error
    except OSError as error:
        raise unreadable(path, error) from error


def read_arrow(table: pa.Table) -> Iterator[Block]:
    """Yield the rows of an Arrow table in memory; a table without rows is one empty block."""
    import pyarrow as pa

    batches = table.to_batches(max_chunksize=ROWS_A_BLOCK)
    return _blocks(iter(batches or [pa.RecordBatch.from_pylist([], schema=table.schema)]), "the table")


def _batches(path: str, stack: ExitStack) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of a file; a schema without rows is one empty batch."""
    import pyarrow as pa
    from pyarrow import ipc, parquet

    file = stack.enter_context(open_source(path) if is_url(path) else pa.memory_map(path))
    if suffix_of(path) == ".parquet":
        table = parquet.ParquetFile(file)
        schema, batches = table.schema_arrow, table.iter_batches(_rows_a_batch(table.metadata))
    elif file.read(6) == b"ARROW1":
        reader = ipc.open_file(file)
        schema = reader.schema
        batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
    else:
        file.seek(0)
        stream = ipc.open_stream(file)
        schema, batches = stream.schema, stream
    check_width(schema.names, path)
    is_empty = True
    for batch in batches:
        is_empty = False
        yield batch
    if is_empty:
        yield pa.RecordBatch.from_pylist([], schema=schema)


def _checked(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch of a file whose values can be read: pyarrow itself believes whatever offsets a file gives."""
    batch.validate(full=True)
    return batch


def _rows_a_batch(metadata: Any) -> int:
    """Return the number of rows that are read at once: few of recordings, many of numbers."""
    size = sum(int(metadata.row_group(number).total_byte_size) for number in range(metadata.num_row_groups))
    return max(1, min(ROWS_A_BLOCK, _BYTES_A_BATCH * max(1, int(metadata.num_rows)) // max(1, size)))


def _blocks(batches: Iterator[pa.RecordBatch], where: str) -> Iterator[Block]:
    first = 1
    for batch in batches:
        BATCH_BYTES.check(0 if where.endswith((".arrow", ".feather")) else batch.nbytes, where)
        for start in range(0, max(1, batch.num_rows), ROWS_A_BLOCK):
            part = batch.slice(start, ROWS_A_BLOCK)
            columns = [_values(column) for column in part.columns]
            rows = list(zip(*columns, strict=True)) if columns else [()] * part.num_rows
            yield Block(tuple(part.schema.names), tuple(part.schema.types), range(first, first + part.num_rows), rows)
            first += part.num_rows


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
        column = compute.if_else(compute.is_nan(column), pa.scalar(None, kind), column)
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
    """Tell whether a column holds recordings as Hugging Face's `datasets` writes them: structs of bytes and path."""
    from pyarrow import types

    if not types.is_struct(kind):
        return False
    index = kind.get_field_index("bytes")
    return index >= 0 and (is_binary(kind.field(index).type) or types.is_null(kind.field(index).type))


def _cell(value: Any, name: str | None = None) -> Cell | None:
    return Cell(value, len(value.as_buffer()), name) if value.is_valid else None


def _recording(value: Any) -> Cell | str | None:
    """Return the recording in a struct, or its path where it holds no bytes."""
    if not value.is_valid:
        return None
    path = value["path"].as_py() if "path" in value else None
    return _cell(value["bytes"], path or None) or path or None

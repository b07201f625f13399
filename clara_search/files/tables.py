"""The reader of tables: CSV, TSV, JSON lines, Parquet and Arrow files, row by row, from a path or a URL.

A broken line costs that line: it is given to `report`, which raises by default. A table that is broken as a whole
raises.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from clara_search.errors import ClaraError, FormatError
from clara_search.files.json_reader import parse_object
from clara_search.files.paths import is_url, open_source, suffix_of, unreadable
from clara_search.files.shards import BytesSource

ARROW_SUFFIXES = (".arrow", ".feather")
COLUMNAR_SUFFIXES = (".parquet", *ARROW_SUFFIXES)
MANIFEST_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", *COLUMNAR_SUFFIXES)
"""Suffixes of the files that `read_table` reads, in lower case."""

AUDIO_COLUMN = "audio"
"""Of Parquet and Arrow files: a struct of `bytes` and `path`, as Hugging Face's `datasets` writes recordings."""

_FIELD_CHARACTERS = 1 << 24
"""Characters that a cell of a CSV file may have."""

_ROWS_A_BATCH = 1024
_ROWS_WITH_AUDIO_A_BATCH = 32

OnError = Callable[[ClaraError], None]
"""Called with an error that costs one row, or the rest of a file."""


@dataclass(frozen=True)
class Cell:
    """The encoded recording in a row; of a memory-mapped file the bytes are read on demand."""

    value: Any
    size: int

    def read(self) -> bytes:
        """Return the bytes."""
        return bytes(self.value.as_buffer())


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        line: The line that it starts on, from 1; of Parquet and Arrow files its number.
        values: Its values by column, None where a cell is empty. Cells of CSV and TSV are text without the blanks
            around it.
        content: The recording that it holds, if any.
        name: URI of that recording, where it is not the file and the line.
    """

    line: int
    values: Mapping[str, Any]
    content: BytesSource | None = None
    name: str | None = None


def raise_error(error: ClaraError) -> None:
    """Raise `error`, the default of readers."""
    raise error


def read_table(path: str, report: OnError = raise_error, required: Sequence[Sequence[str]] = ()) -> Iterator[Row]:
    """Yield the rows of a table, in order; of JSON lines an object is a row.

    Args:
        path: Path or URL of a file with one of `MANIFEST_SUFFIXES`.
        report: Called with the error of a line that is broken: not UTF-8, not JSON, with too many or too few cells.
        required: Groups of columns. Of each group a file with a header has to have one.

    Raises:
        FormatError: The table is broken as a whole, or lacks a column.
        SourceError: The file cannot be read; `Unreachable` where it is a URL.
    """
    suffix = suffix_of(path)
    if suffix in COLUMNAR_SUFFIXES:
        return _read_columnar(path, required)
    if suffix in (".csv", ".tsv"):
        return _read_csv(path, "\t" if suffix == ".tsv" else ",", report, required)
    return _read_json_lines(path, report)


def _read_raw_lines(path: str) -> Iterator[bytes]:
    """Yield the lines of a file or URL, line ends included, without a byte order mark. Raises as `read_table` does."""
    try:
        with open_source(path) as file:
            for number, line in enumerate(file):
                yield line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
    except OSError as error:
        raise unreadable(path, error) from error


def read_lines(path: str) -> Iterator[str]:
    """Yield the lines of a UTF-8 file or URL, line ends included. Raises FormatError with one that is not UTF-8."""
    for number, line in enumerate(_read_raw_lines(path), start=1):
        yield _decode(line, f"{path}, line {number}")


def _read_json_lines(path: str, report: OnError) -> Iterator[Row]:
    for number, line in enumerate(_read_raw_lines(path), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            values = parse_object(_decode(line, where), where, is_row=True)
        except FormatError as error:
            report(error)
        else:
            yield Row(number, values)


def _decode(line: bytes, where: str) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"{where}: not UTF-8 ({error.reason})") from error


class _TextLines:
    """The lines of a CSV file as text. Each keeps its error until the row that it belongs to is complete."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._error: FormatError | None = None

    def __iter__(self) -> Iterator[str]:
        for number, line in enumerate(_read_raw_lines(self._path), start=1):
            try:
                yield _decode(line, f"{self._path}, line {number}")
            except FormatError as error:
                self._error = self._error or error
                yield line.decode("utf-8", "replace")

    def take_error(self) -> FormatError | None:
        """Return the error of the lines that were read since the last call."""
        error, self._error = self._error, None
        return error


def _read_csv(path: str, delimiter: str, report: OnError, required: Sequence[Sequence[str]]) -> Iterator[Row]:
    csv.field_size_limit(_FIELD_CHARACTERS)
    lines = _TextLines(path)
    reader = csv.reader(iter(lines), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        start = reader.line_num + 1  # a quoted cell can span lines: the row is where it starts
        cells, error = _next_cells(reader, path)
        error = lines.take_error() or error
        if cells is None:
            break
        if header is None and (cells or error is not None):
            header = _parse_header(path, start, cells, error, required)
        elif error is None and header is not None and cells and len(cells) != len(header):
            error = FormatError(f"{path}, line {start}: {len(cells)} cells, but {len(header)} columns")
        elif error is None and header is not None and cells:
            yield Row(start, {name: cell.strip() or None for name, cell in zip(header, cells, strict=True)})
        if error is not None:
            report(error)
    if header is None:
        _check_columns(path, (), required)


def _next_cells(reader: Iterator[list[str]], path: str) -> tuple[list[str] | None, FormatError | None]:
    """Return the next cells, None after the last row, and their error."""
    try:
        return next(reader, None), None
    except csv.Error as error:
        return [], FormatError(f"{path}, line {reader.line_num}: {error}")  # type: ignore[attr-defined]


def _parse_header(
    path: str, line: int, cells: Sequence[str], error: FormatError | None, required: Sequence[Sequence[str]]
) -> list[str]:
    if error is not None:
        raise error
    header = [name.strip() for name in cells]
    if len(set(header)) < len(header):
        raise FormatError(f"{path}, line {line}: two columns have the same name")
    _check_columns(path, header, required)
    return header


def _check_columns(path: str, names: Iterable[str], required: Sequence[Sequence[str]]) -> None:
    if missing := [" or ".join(group) for group in required if not set(group) & set(names)]:
        raise FormatError(f"{path}: the manifest has no column {' and no column '.join(missing)}")


def _read_columnar(path: str, required: Sequence[Sequence[str]]) -> Iterator[Row]:
    import pyarrow as pa

    number = 0
    try:
        with ExitStack() as stack:
            for batch in _batches(path, stack):
                if number == 0:
                    _check_columns(path, batch.schema.names, required)
                columns = {name: batch[name] for name in batch.schema.names if not _is_audio(batch.schema, name)}
                audio = batch[AUDIO_COLUMN] if _is_audio(batch.schema, AUDIO_COLUMN) else None
                rows = pa.RecordBatch.from_pydict(columns).to_pylist() if columns else [{}] * batch.num_rows
                for index, values in enumerate(rows):
                    number += 1
                    yield _with_audio(number, values, None if audio is None else audio[index])
    except pa.ArrowException as error:
        kind = "Parquet" if suffix_of(path) == ".parquet" else "Arrow"
        raise FormatError(f"{path}: not a readable {kind} file ({error})") from error
    except OSError as error:
        raise unreadable(path, error) from error


def _batches(path: str, stack: ExitStack) -> Iterator[Any]:
    """Yield the record batches of a file; a schema without rows is one empty batch."""
    import pyarrow as pa
    from pyarrow import ipc, parquet

    file = stack.enter_context(open_source(path) if is_url(path) else pa.memory_map(path))
    if suffix_of(path) == ".parquet":
        table = parquet.ParquetFile(file)
        schema = table.schema_arrow
        rows = _ROWS_WITH_AUDIO_A_BATCH if _is_audio(schema, AUDIO_COLUMN) else _ROWS_A_BATCH
        batches = table.iter_batches(rows)
    elif file.read(6) == b"ARROW1":
        reader = ipc.open_file(file)
        schema = reader.schema
        batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
    else:
        file.seek(0)
        stream = ipc.open_stream(file)
        schema, batches = stream.schema, stream
    first = next(iter(batches), None)
    if first is None:
        yield pa.RecordBatch.from_pylist([], schema=schema)
    else:
        yield first
        yield from batches


def _is_audio(schema: Any, name: str) -> bool:
    import pyarrow as pa

    if name != AUDIO_COLUMN or name not in schema.names or not pa.types.is_struct(schema.field(name).type):
        return False
    return int(schema.field(name).type.get_field_index("bytes")) >= 0


def _with_audio(number: int, values: dict[str, Any], audio: Any) -> Row:
    if audio is None or not audio.is_valid:
        return Row(number, values)
    content = audio["bytes"]
    if content.is_valid:
        return Row(number, values, Cell(content, len(content.as_buffer())))
    path = audio["path"].as_py() if "path" in audio else None
    return Row(number, values if path is None else {**values, "path": path})

"""Rows of Parquet and Arrow files, read batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from clara_search.errors import FormatError
from clara_search.files.paths import is_url, open_binary
from indexer.sources.columns import plain_value
from indexer.sources.row import Row

ARROW_SUFFIXES = frozenset({".arrow", ".feather"})
COLUMNAR_SUFFIXES = ARROW_SUFFIXES | {".parquet"}

AUDIO_COLUMN = "audio"
"""A struct of `bytes`, the encoded file, and `path`, as Hugging Face's `datasets` writes it."""

_ROWS_AT_ONCE = 1024
_ROWS_WITH_AUDIO_AT_ONCE = 32


@dataclass(frozen=True)
class _Cell:
    """The bytes in a cell; those of a memory-mapped file are read on demand."""

    value: Any
    size: int

    def read(self) -> bytes:
        return bytes(self.value.as_buffer())


def read_arrow_rows(path: str) -> Iterator[Row]:
    """Yield the rows of a Parquet or Arrow file (IPC file or stream). Raises FormatError if it cannot be read."""
    import pyarrow as pa

    number = 0
    try:
        with ExitStack() as stack:
            for batch in _batches(path, stack):
                columns = {name: batch[name] for name in batch.schema.names if not _is_audio(batch.schema, name)}
                audio = batch[AUDIO_COLUMN] if _is_audio(batch.schema, AUDIO_COLUMN) else None
                rest = pa.RecordBatch.from_pydict(columns).to_pylist() if columns else [{}] * batch.num_rows
                for index, values in enumerate(rest):
                    number += 1
                    plain = {name: plain_value(value) for name, value in values.items()}
                    yield _row(number, plain, None if audio is None else audio[index])
    except (pa.ArrowException, OSError) as error:
        raise FormatError(f"{path}: not a readable {_format_name(path)} file ({error})") from error


def _batches(path: str, stack: ExitStack) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import ipc, parquet

    file = stack.enter_context(open_binary(path) if is_url(path) else pa.memory_map(path))
    if path.lower().endswith(".parquet"):
        table = parquet.ParquetFile(file)
        has_audio = _is_audio(table.schema_arrow, AUDIO_COLUMN)
        yield from table.iter_batches(_ROWS_WITH_AUDIO_AT_ONCE if has_audio else _ROWS_AT_ONCE)
        return
    if file.read(6) == b"ARROW1":
        reader = ipc.open_file(file)
        yield from (reader.get_batch(number) for number in range(reader.num_record_batches))
    else:
        file.seek(0)
        yield from ipc.open_stream(file)


def _is_audio(schema: Any, name: str) -> bool:
    import pyarrow as pa

    if name != AUDIO_COLUMN or name not in schema.names or not pa.types.is_struct(schema.field(name).type):
        return False
    return int(schema.field(name).type.get_field_index("bytes")) >= 0


def _row(number: int, values: dict[str, Any], audio: Any) -> Row:
    if audio is None or not audio.is_valid:
        return Row(number, values)
    content = audio["bytes"]
    if content.is_valid:
        return Row(number, values, _Cell(content, len(content.as_buffer())))
    path = audio["path"].as_py() if "path" in audio else None
    return Row(number, values if path is None else {**values, "path": path})


def _format_name(path: str) -> str:
    return "Parquet" if path.lower().endswith(".parquet") else "Arrow"

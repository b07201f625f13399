"""Rows of Parquet and Arrow files, and of the folders that Hugging Face's `datasets` saves: read batch by batch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clara_search.errors import FormatError
from clara_search.files.gate import RefusedUri, child_of
from clara_search.files.paths import is_url, open_binary
from indexer.sources.row import Row, plain_value

ARROW_SUFFIXES = frozenset({".arrow", ".feather"})
COLUMNAR_SUFFIXES = ARROW_SUFFIXES | {".parquet"}

AUDIO_COLUMN = "audio"
"""A struct of `bytes` and `path`: the encoded file, or where it lies."""

_ROWS_AT_ONCE = 1024
_ROWS_WITH_AUDIO_AT_ONCE = 32
_STATE, _SPLITS = "state.json", "dataset_dict.json"


@dataclass(frozen=True)
class _Cell:
    """The bytes in a row of a column: of a file that is mapped into memory they are read when they are asked for."""

    value: Any
    size: int

    def read(self) -> bytes:
        return bytes(self.value.as_buffer())


def read_arrow_rows(place: str) -> Iterator[Row]:
    """Yield the rows of a Parquet or Arrow file (IPC file or stream). Raises FormatError where it cannot be read."""
    import pyarrow as pa

    number = 0
    try:
        with ExitStack() as stack:
            for batch in _batches(place, stack):
                columns = {name: batch[name] for name in batch.schema.names if not _is_audio(batch.schema, name)}
                audio = batch[AUDIO_COLUMN] if _is_audio(batch.schema, AUDIO_COLUMN) else None
                rest = pa.RecordBatch.from_pydict(columns).to_pylist() if columns else [{}] * batch.num_rows
                for place_in_batch, values in enumerate(rest):
                    number += 1
                    found = {name: plain_value(value) for name, value in values.items()}
                    yield _row(number, found, None if audio is None else audio[place_in_batch])
    except (pa.ArrowException, OSError) as error:
        raise FormatError(f"{place}: not a {_name(place)} file that can be read ({error})") from error


def dataset_files(folder: Path) -> list[str] | None:
    """Return the Arrow files of a folder that `datasets` saved, of all its splits; None for any other folder.

    Raises FormatError where it is broken.
    """
    try:
        if (folder / _SPLITS).is_file():
            splits = json.loads((folder / _SPLITS).read_text(encoding="utf-8"))["splits"]
            found = [dataset_files(child_of(folder, split)) for split in splits]
            if None in found:
                raise FormatError(f"{folder}: one of the splits {', '.join(splits)} is missing")
            return [file for files in found if files is not None for file in files]
        if not (folder / _STATE).is_file():
            return None
        listed = json.loads((folder / _STATE).read_text(encoding="utf-8"))["_data_files"]
        return [str(child_of(folder, entry["filename"])) for entry in listed]
    except (OSError, ValueError, KeyError, TypeError, RecursionError, RefusedUri) as error:
        raise FormatError(f"{folder}: not a data set that can be read ({error})") from error


def _batches(place: str, stack: ExitStack) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import ipc, parquet

    file = stack.enter_context(open_binary(place) if is_url(place) else pa.memory_map(place))
    if place.lower().endswith(".parquet"):
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


def _name(place: str) -> str:
    return "Parquet" if place.lower().endswith(".parquet") else "Arrow"

"""Manifests: CSV, TSV, JSON-lines and Parquet files with a `path` or `text` column and any further ones."""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

from clara_search.errors import FormatError
from indexer.items import ColumnType, Item, Survey, text_lines

KNOWN_COLUMNS = frozenset({"path", "text", "language", "start_s", "end_s"})
RESERVED_COLUMNS = frozenset({"id", "kind", "uri", "content_hash", "vector", "rank", "score"})
"""Names that a table or a hit uses itself: a manifest's own column has to be called something else."""

_WHOLE_NUMBER = re.compile(r"-?(0|[1-9]\d{0,17})")
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
_WIDTH = {kind: width for width, kind in enumerate(get_args(ColumnType))}
_PARQUET_ROWS = 1024


class _Row(NamedTuple):
    line: int
    values: Mapping[str, Any]


def survey(path: Path, text_column: str | None = None) -> Survey:
    """Read the manifest to its end: count its rows and type its further columns. Raises FormatError if it is broken.

    In CSV and TSV, where all is text, a column of plain numbers counts as numbers; "007" is none.
    """
    type_of = _type_of_cell if _is_csv(path) else _type_of
    count, columns = 0, dict[str, ColumnType]()
    names = set[str]()
    for row in _rows(path):
        count += 1
        if not names.issuperset(row.values):
            names |= row.values.keys()
            _check_names(path, row, text_column)
        for name, value in row.values.items():
            if value is not None and name not in KNOWN_COLUMNS and name != text_column:
                columns[name] = wider(columns.get(name), type_of(value))
    if count == 0:
        raise FormatError(f"{path}: holds no rows")
    listed = ", ".join(sorted(names))
    if text_column is not None and text_column not in names:
        raise FormatError(f"{path}: has no column '{text_column}' (it has {listed})")
    if not names & {"path", text_column or "text"}:
        raise FormatError(f"{path}: has neither a 'path' nor a 'text' column (it has {listed}); see --text-column")
    return Survey(count, columns)


def items(path: Path, text_column: str | None = None) -> Iterator[Item]:
    """Yield an item per row: audio where it has a path (relative to the manifest), else text."""
    for row in _rows(path):
        yield _item(path, row, text_column or "text")


def wider(first: ColumnType | None, second: ColumnType) -> ColumnType:
    """Return the narrowest type that holds the values of both."""
    if first is None or first == second:
        return second
    if "bool" in (first, second):
        return "text"
    return max(first, second, key=_WIDTH.__getitem__)


def convert(value: Any, kind: ColumnType) -> Any:
    """Return a value of a further column as what `survey` found the whole column to hold."""
    if kind == "text":
        return value if isinstance(value, str) else json.dumps(value)
    return value if isinstance(value, bool) else {"int": int, "float": float}[kind](value)


def _item(path: Path, row: _Row, text_column: str) -> Item:
    values = {name: value for name, value in row.values.items() if value is not None}
    named, text, language = values.pop("path", None), values.pop(text_column, None), values.pop("language", None)
    place = f"{path}#L{row.line}"
    try:
        start_s, end_s = _seconds(values.pop("start_s", None)), _seconds(values.pop("end_s", None))
        if (start_s or 0.0) >= (math.inf if end_s is None else end_s):
            raise ValueError(f"start_s {start_s} is not before end_s {end_s}")
        if "\0" in str(named):
            raise ValueError("its path holds a NUL")
        for name, value in (("path", named), (text_column, text), ("language", language)):
            if not isinstance(value, (str, type(None))):
                raise ValueError(f"{name} is no text: {value!r}")
        if named is None and text is None:
            raise ValueError("has neither a path nor a text")
    except ValueError as error:
        return Item(str(path), "text", place, row.line, problem=str(error))
    uri = place if named is None else os.path.normpath(path.parent / named)
    kind = "text" if named is None else "audio"
    return Item(str(path), kind, uri, row.line, text, language, start_s, end_s, values)  # type: ignore[arg-type]


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError(f"not a time in seconds: {value!r}")
    return seconds


def _check_names(path: Path, row: _Row, text_column: str | None) -> None:
    for name in row.values:
        where = f"{path}, line {row.line}: column '{name}'"
        if name in RESERVED_COLUMNS and name != text_column:
            raise FormatError(f"{where} has a name that the table uses itself: rename it")
        if not name or name.startswith("_") or "." in name or "`" in name:
            raise FormatError(f"{where} cannot be a column of a table: no leading '_', no '.' and no '`', please")
    if text_column not in (None, "text") and "text" in row.values:
        raise FormatError(f"{path}: has a column 'text' beside --text-column '{text_column}': rename or drop it")


def _type_of(value: Any) -> ColumnType:
    for kind, python_type in (("bool", bool), ("int", int), ("float", float)):
        if isinstance(value, python_type):
            return cast(ColumnType, kind)
    return "text"


def _type_of_cell(cell: str) -> ColumnType:
    if _WHOLE_NUMBER.fullmatch(cell):
        return "int"
    return "float" if _NUMBER.fullmatch(cell) else "text"


def _is_csv(path: Path) -> bool:
    return path.suffix.lower() in (".csv", ".tsv")


def _rows(path: Path) -> Iterator[_Row]:
    suffix = path.suffix.lower()
    if _is_csv(path):
        return _csv_rows(path, "\t" if suffix == ".tsv" else ",")
    return _parquet_rows(path) if suffix == ".parquet" else _json_rows(path)


def _csv_rows(path: Path, delimiter: str) -> Iterator[_Row]:
    reader = csv.reader(text_lines(path), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    line = 0
    try:
        for cells in reader:
            # A quoted cell can span lines: the row is where it begins.
            first_line, line = line + 1, reader.line_num
            if not cells:
                continue
            if header is None:
                header = [name.strip() for name in cells]
                if len(set(header)) < len(header):
                    raise FormatError(f"{path}, line {first_line}: two columns have the same name")
                continue
            if len(cells) != len(header):
                raise FormatError(f"{path}, line {first_line}: {len(cells)} cells, but {len(header)} columns")
            yield _Row(first_line, {name: _csv_value(cell) for name, cell in zip(header, cells, strict=True)})
    except csv.Error as error:
        raise FormatError(f"{path}, line {reader.line_num}: {error}") from error


def _csv_value(cell: str) -> str | None:
    return cell.strip() or None


def _json_rows(path: Path) -> Iterator[_Row]:
    for number, line in enumerate(text_lines(path), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{path}, line {number}: not JSON ({error})") from error
        if not isinstance(values, dict):
            raise FormatError(f"{path}, line {number}: not a JSON object")
        yield _Row(number, {_unicode(name): _plain(value) for name, value in values.items()})


def _parquet_rows(path: Path) -> Iterator[_Row]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        number = 0
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_PARQUET_ROWS):
                for values in batch.to_pylist():
                    number += 1
                    yield _Row(number, {name: _plain(value) for name, value in values.items()})
    except (pa.ArrowException, OSError) as error:
        raise FormatError(f"{path}: not a Parquet file that can be read ({error})") from error


def _plain(value: Any) -> Any:
    """Return a scalar as it is, and what is nested, a date or a number beyond 64 bits as text."""
    if isinstance(value, str):
        return _unicode(value) or None
    if value is None or isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    return _unicode(json.dumps(value, ensure_ascii=False, default=str))


def _unicode(text: str) -> str:
    """Return `text` with what is no character (half of a surrogate pair, as JSON can spell it) replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

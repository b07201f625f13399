"""Manifests: CSV, TSV, JSON-lines, Parquet and Arrow files with a `path`, `url` or `text` column and any further ones.

Parquet and Arrow files may hold the recordings themselves, in a column `audio` as Hugging Face's `datasets` writes it.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator
from typing import Any, Literal, cast, get_args

from clara_search.errors import ConfigError, FormatError
from clara_search.files.gate import ForeignUri, admit
from clara_search.files.paths import FileStat, stat_file
from indexer.sources.arrow import COLUMNAR_SUFFIXES, read_arrow_rows
from indexer.sources.item import ColumnType, Item, Survey, suffix_of, text_lines
from indexer.sources.row import Row, plain_value, to_unicode

KNOWN_COLUMNS = frozenset({"path", "url", "text", "language", "start_s", "end_s"})
RESERVED_COLUMNS = frozenset({"id", "kind", "uri", "content_hash", "vector", "rank", "score"})
"""Names that a table or a hit uses itself: a manifest's own column has to be called something else."""

_WHOLE_NUMBER = re.compile(r"-?(0|[1-9]\d{0,17})")
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
_WIDTH = {kind: width for width, kind in enumerate(get_args(ColumnType))}


def survey(place: str, text_column: str | None = None) -> Survey:
    """Read the manifest to its end: count its rows and type its further columns.

    Raises FormatError if it is broken, ConfigError where it has no column `text_column`.

    In CSV and TSV, where all is text, a column of plain numbers counts as numbers; "007" is none.
    """
    type_of_one = _type_of_cell if _is_csv(place) else type_of
    count, columns = 0, dict[str, ColumnType]()
    names = set[str]()
    for row in _rows(place):
        count += 1
        if not names.issuperset(row.values):
            names |= row.values.keys()
            _check_names(place, row, text_column)
        names |= {"audio"} if row.content is not None else set()
        for name, value in row.values.items():
            if value is not None and name not in KNOWN_COLUMNS and name != text_column:
                columns[name] = wider_type(columns.get(name), type_of_one(value))
    if count == 0:
        raise FormatError(f"{place}: holds no rows")
    listed = ", ".join(sorted(names))
    if text_column is not None and text_column not in names:
        raise ConfigError(f"{place}: has no column '{text_column}' (it has {listed})")
    if not names & {"path", "url", "audio", text_column or "text"}:
        raise FormatError(f"{place}: has neither a 'path' nor a 'text' column (it has {listed}); see --text-column")
    return Survey(count, columns)


def items(place: str, text_column: str | None = None) -> Iterator[Item]:
    """Yield an item per row: audio where it has a path or url (relative to the manifest) or holds it, else text."""
    status: FileStat | None = None
    for row in _rows(place):
        if row.content is not None and status is None:
            status = stat_file(place)
        yield item_of(place, row, text_column or "text", status)


def wider_type(first: ColumnType | None, second: ColumnType) -> ColumnType:
    """Return the narrowest type that holds the values of both."""
    if first is None or first == second:
        return second
    if "bool" in (first, second):
        return "text"
    return max(first, second, key=_WIDTH.__getitem__)


def convert_value(value: Any, kind: ColumnType) -> Any:
    """Return a value of a further column as what `survey` found the whole column to hold."""
    if kind == "text":
        return value if isinstance(value, str) else json.dumps(value)
    return value if isinstance(value, bool) else {"int": int, "float": float}[kind](value)


def item_of(place: str, row: Row, text_column: str, status: FileStat | None) -> Item:
    """Return the item that a row of the manifest `place` lists; `status` is that of the file, where it holds audio."""
    values = {name: value for name, value in row.values.items() if value is not None}
    named, url = values.pop("path", None), values.pop("url", None)
    text, language = values.pop(text_column, None), values.pop("language", None)
    here = row.name or f"{place}#L{row.line}"
    try:
        start_s, end_s = _seconds(values.pop("start_s", None)), _seconds(values.pop("end_s", None))
        if (start_s or 0.0) >= (math.inf if end_s is None else end_s):
            raise ValueError(f"start_s {start_s} is not before end_s {end_s}")
        named = url if named is None else named
        for name, value in (("path", named), (text_column, text), ("language", language)):
            if not isinstance(value, (str, type(None))):
                raise ValueError(f"{name} is no text: {value!r}")
        if named is None and text is None and row.content is None:
            raise ValueError("has neither a path nor a text")
        uri = here if named is None or row.content is not None else admit(ForeignUri(named, place))
    except (ValueError, FormatError) as error:
        return Item(place, "text", here, row.line, problem=str(error))
    kind: Literal["audio", "text"] = "text" if named is None and row.content is None else "audio"
    return Item(place, kind, uri, row.line, text, language, start_s, end_s, values, content=row.content, stat=status)


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


def _check_names(place: str, row: Row, text_column: str | None) -> None:
    for name in row.values:
        where = f"{place}, line {row.line}: column '{name}'"
        if name in RESERVED_COLUMNS and name != text_column:
            raise FormatError(f"{where} has a name that the table uses itself: rename it")
        if not name or name.startswith("_") or "." in name or "`" in name:
            raise FormatError(f"{where} cannot be a column of a table: no leading '_', no '.' and no '`', please")
    if text_column not in (None, "text") and "text" in row.values:
        raise ConfigError(f"{place}: has a column 'text' beside --text-column '{text_column}': rename or drop it")


def type_of(value: Any) -> ColumnType:
    """Return what a column holds that holds `value`."""
    for kind, python_type in (("bool", bool), ("int", int), ("float", float)):
        if isinstance(value, python_type):
            return cast(ColumnType, kind)
    return "text"


def _type_of_cell(cell: str) -> ColumnType:
    if _WHOLE_NUMBER.fullmatch(cell):
        return "int"
    return "float" if _NUMBER.fullmatch(cell) else "text"


def _is_csv(place: str) -> bool:
    return suffix_of(place) in (".csv", ".tsv")


def _rows(place: str) -> Iterator[Row]:
    suffix = suffix_of(place)
    if _is_csv(place):
        return _csv_rows(place, "\t" if suffix == ".tsv" else ",")
    return read_arrow_rows(place) if suffix in COLUMNAR_SUFFIXES else _json_rows(place)


def _csv_rows(place: str, delimiter: str) -> Iterator[Row]:
    reader = csv.reader(text_lines(place), delimiter=delimiter, strict=True)
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
                    raise FormatError(f"{place}, line {first_line}: two columns have the same name")
                continue
            if len(cells) != len(header):
                raise FormatError(f"{place}, line {first_line}: {len(cells)} cells, but {len(header)} columns")
            yield Row(first_line, {name: _csv_value(cell) for name, cell in zip(header, cells, strict=True)})
    except csv.Error as error:
        raise FormatError(f"{place}, line {reader.line_num}: {error}") from error


def _csv_value(cell: str) -> str | None:
    return cell.strip() or None


def _json_rows(place: str) -> Iterator[Row]:
    for number, line in enumerate(text_lines(place), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{place}, line {number}: not JSON ({error})") from error
        if not isinstance(values, dict):
            raise FormatError(f"{place}, line {number}: not a JSON object")
        yield Row(number, {to_unicode(name): plain_value(value) for name, value in values.items()})

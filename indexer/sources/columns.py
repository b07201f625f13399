"""Further columns of a source: their names and types in a table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, TypeAlias

import pyarrow as pa
from pyarrow import types

from clara_search.errors import ConfigError
from clara_search.store.schema import SPOKEN_WORDS
from indexer.sources.values import MISSING_CELLS, to_unicode

ColumnType: TypeAlias = pa.DataType
"""Type of a further column."""

CAPTIONS_COLUMN = "captions"
"""A list of the texts of an item that has several."""

RESERVED_COLUMNS = frozenset(
    {"id", "kind", "uri", "start_s", "end_s", "text", "language", "content_hash", "vector", "rank", "score", "path"}
    | {CAPTIONS_COLUMN, SPOKEN_WORDS}
)
"""Names that a table or a hit uses itself: a source's own column of that name is kept as `source_NAME`."""

TEXT, INT, FLOAT, BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()
DATE, TIMESTAMP, TIMESTAMP_UTC = pa.date32(), pa.timestamp("us"), pa.timestamp("us", "UTC")
TIME, DURATION = pa.time64("us"), pa.duration("us")
CAPTIONS = pa.list_(TEXT)

LONG_INT = pa.decimal128(19, 0)
"""Of whole numbers of 64 bits that a float would round; `stored_type` makes it an int64."""

EXACT = 2**53
"""Up to here a float holds every whole number."""

_LONGEST_DECIMAL = 38

_INT_CELL = re.compile(r"-?(0|[1-9]\d{0,18})")
_FLOAT_CELL = re.compile(r"-?(\d+\.\d+|\d(\.\d+)?e[-+]\d+)")
_DATE_CELL = re.compile(r"\d{4}-\d\d-\d\d")
_TIMESTAMP_CELL = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?")
_NAMED_TYPES = {
    **dict.fromkeys(("text", "string", "str"), TEXT),
    **dict.fromkeys(("int", "integer", "int64"), INT),
    **dict.fromkeys(("float", "number", "double", "float64"), FLOAT),
    **dict.fromkeys(("bool", "boolean"), BOOL),
    "date": DATE,
    **dict.fromkeys(("timestamp", "datetime"), TIMESTAMP),
    "time": TIME,
    "duration": DURATION,
}


@lru_cache(10_000)
def table_name(name: str) -> str:
    """Return a source's name of a column as a table can have it, and filters can spell it."""
    clean = to_unicode(name).replace(".", "_").replace("`", "_")
    is_taken = not clean or clean.lower() in RESERVED_COLUMNS or clean.startswith("_")
    return f"source_{clean.lstrip('_')}" if is_taken else clean


def parse_type(name: str) -> ColumnType:
    """Return the type that a user calls `name`, such as "date" or "decimal(10,2)". Raises ConfigError for others."""
    if name.lower() in _NAMED_TYPES:
        return _NAMED_TYPES[name.lower()]
    decimal = re.fullmatch(r"decimal(?:\((\d{1,2}),\s*(\d{1,2})\))?", name.lower())
    if decimal is not None:
        precision, scale = int(decimal[1] or 18), int(decimal[2] or 4)
        if 0 < precision <= _LONGEST_DECIMAL and scale <= precision:
            return pa.decimal128(precision, scale)
    known = ", ".join(("text", "int", "float", "bool", "date", "timestamp", "time", "duration", "decimal(P,S)"))
    raise ConfigError(f"no type of a column is called {name!r}: it is one of {known}")


def parse_types(names: Mapping[str, str]) -> dict[str, ColumnType]:
    """Return the types of columns that a user named, as `parse_type` does."""
    return {column: parse_type(name) for column, name in names.items()}


def arrow_type(kind: pa.DataType) -> ColumnType | None:
    """Return the type that a column of Arrow's type `kind` has in a table; None for one that holds nothing."""
    if isinstance(kind, pa.BaseExtensionType):
        return arrow_type(kind.storage_type)
    if types.is_dictionary(kind):
        return arrow_type(kind.value_type)
    if types.is_null(kind):
        return None
    if types.is_boolean(kind):
        return BOOL
    if types.is_uint64(kind):
        return kind
    if types.is_integer(kind):
        return INT
    if types.is_floating(kind):
        return FLOAT
    if types.is_date(kind):
        return DATE
    if types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)
    if types.is_time(kind):
        return TIME
    if types.is_duration(kind):
        return DURATION
    if types.is_decimal(kind) and kind.precision <= _LONGEST_DECIMAL and kind.scale >= 0:
        return pa.decimal128(kind.precision + (kind == LONG_INT), kind.scale)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind) or types.is_list_view(kind):
        element = arrow_type(kind.value_type)
        return TEXT if element is None or types.is_nested(element) else pa.list_(element)
    return TEXT


def value_type(value: Any) -> ColumnType | None:
    """Return the narrowest type of a column that can hold `value`; None for a missing one."""
    if value is None or value != value:
        return None
    if isinstance(value, str):
        return _date_type(value) or TEXT
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, int):
        return INT if abs(value) <= EXACT else LONG_INT if abs(value) < 2**63 else TEXT
    if isinstance(value, float):
        return FLOAT
    if isinstance(value, (list, tuple)):
        element: ColumnType | None = None
        for item in value:
            element = wider_type(element, TEXT if isinstance(item, str) else value_type(item))
        return pa.list_(pa.null() if element is None else element) if not types.is_nested(element or TEXT) else TEXT
    if isinstance(value, datetime):
        return TIMESTAMP if value.tzinfo is None else TIMESTAMP_UTC
    for python_type, kind in ((date, DATE), (time, TIME), (timedelta, DURATION)):
        if isinstance(value, python_type):
            return kind
    if isinstance(value, Decimal):
        return pa.scalar(value).type
    return TEXT


def cell_type(cell: str) -> ColumnType | None:
    """Return the type of a cell of CSV or TSV, where all is text; None where it may be missing.

    A number is one only if a program would write it so: 12 and 0.5 are, 1e3, 1.10 and 0012 are texts.
    """
    if _INT_CELL.fullmatch(cell):
        return value_type(int(cell)) if cell != "-0" else TEXT
    if _FLOAT_CELL.fullmatch(cell):
        return FLOAT if repr(float(cell)) == cell else TEXT
    if cell.lower() in ("true", "false"):
        return BOOL
    return None if cell in MISSING_CELLS else _date_type(cell) or TEXT


def _date_type(text: str) -> ColumnType | None:
    if not text[:4].isdigit() or len(text) < 10:
        return None
    try:
        if _DATE_CELL.fullmatch(text):
            date.fromisoformat(text)
            return DATE
        if _TIMESTAMP_CELL.fullmatch(text):
            return TIMESTAMP if datetime.fromisoformat(text).tzinfo is None else TIMESTAMP_UTC
    except ValueError:
        pass
    return None


def wider_type(first: ColumnType | None, second: ColumnType | None) -> ColumnType | None:
    """Return the narrowest type that holds the values of both: int, float, text; date, timestamp; lists of these."""
    if first is None or second is None or first == second:
        return second if first is None else first
    kinds = {first, second}
    if kinds == {INT, FLOAT}:
        return FLOAT
    if kinds == {INT, LONG_INT}:
        return LONG_INT
    if kinds == {DATE, TIMESTAMP}:
        return TIMESTAMP
    if types.is_timestamp(first) and types.is_timestamp(second) and first.tz and second.tz:
        return TIMESTAMP_UTC
    if types.is_list(first) and types.is_list(second):
        elements = [None if types.is_null(kind.value_type) else kind.value_type for kind in (first, second)]
        return pa.list_(wider_type(*elements) or pa.null())
    if all(types.is_decimal(kind) or kind == INT for kind in kinds):
        return _wider_decimal(*((LONG_INT if kind == INT else kind) for kind in kinds))
    if FLOAT in kinds and any(types.is_decimal(kind) and kind.precision <= 15 for kind in kinds):
        return FLOAT
    return TEXT


def _wider_decimal(first: pa.Decimal128Type, second: pa.Decimal128Type) -> ColumnType:
    scale = max(first.scale, second.scale)
    precision = max(first.precision - first.scale, second.precision - second.scale) + scale
    return pa.decimal128(precision, scale) if precision <= _LONGEST_DECIMAL else TEXT


def widen(columns: dict[str, ColumnType], name: str, kind: ColumnType | None) -> None:
    """Let the column `name` of `columns` hold values of another type, too."""
    wider = wider_type(columns.get(name), kind)
    if wider is not None:
        columns[name] = wider


def column_types(rows: Iterable[Mapping[str, Any]]) -> dict[str, ColumnType]:
    """Return the types of the columns of `rows`."""
    columns = dict[str, ColumnType]()
    for row in rows:
        for name, value in row.items():
            widen(columns, name, value_type(value))
    return columns


def stored_type(kind: ColumnType) -> ColumnType:
    """Return the type that a column has in a table."""
    if kind == LONG_INT:
        return INT
    if types.is_list(kind) and (types.is_null(kind.value_type) or kind.value_type == LONG_INT):
        return pa.list_(TEXT if types.is_null(kind.value_type) else INT)
    return kind

"""Further columns of a source: their names, their types, and values as a table can hold them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal, cast, get_args

ColumnType = Literal["bool", "int", "float", "text"]
"""Type of a further column, from the narrowest to the widest."""

ITEM_COLUMNS = frozenset({"path", "url", "text", "language", "start_s", "end_s"})
"""Columns that describe the item itself; all others are further columns."""

RESERVED_COLUMNS = frozenset({"id", "kind", "uri", "content_hash", "vector", "rank", "score"})
"""Names that a table or a hit uses itself: a source's own column must have another name."""

_WIDTHS = {kind: width for width, kind in enumerate(get_args(ColumnType))}


def value_type(value: Any) -> ColumnType:
    """Return the narrowest type of a column that can hold `value`."""
    for kind, python_type in (("bool", bool), ("int", int), ("float", float)):
        if isinstance(value, python_type):
            return cast(ColumnType, kind)
    return "text"


def wider_type(first: ColumnType | None, second: ColumnType) -> ColumnType:
    """Return the narrowest type that holds the values of both."""
    if first is None or first == second:
        return second
    if "bool" in (first, second):
        return "text"
    return max(first, second, key=_WIDTHS.__getitem__)


def column_types(rows: Iterable[Mapping[str, Any]]) -> dict[str, ColumnType]:
    """Return the types of the columns of `rows`."""
    types = dict[str, ColumnType]()
    for row in rows:
        for name, value in row.items():
            types[name] = wider_type(types.get(name), value_type(value))
    return types


def convert_value(value: Any, kind: ColumnType) -> Any:
    """Return a value as its column of type `kind` stores it."""
    if kind == "text":
        return value if isinstance(value, str) else json.dumps(value)
    return value if isinstance(value, bool) else {"int": int, "float": float}[kind](value)


def plain_value(value: Any) -> Any:
    """Return a scalar as it is; nested values, dates and numbers beyond 64 bits as text; None for an empty text."""
    if isinstance(value, str):
        return to_unicode(value) or None
    if value is None or isinstance(value, (bool, float)) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    return to_unicode(json.dumps(value, ensure_ascii=False, default=str))


def to_unicode(text: str) -> str:
    """Return `text` with lone surrogates, as JSON can spell them, replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

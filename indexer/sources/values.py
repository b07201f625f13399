"""Values of further columns, as a table holds them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa
from pyarrow import types

MISSING_CELLS = frozenset({"NaN", "nan", "NA", "N/A", "n/a", "<NA>", "None", "none", "NULL", "null", "NaT", "-"})
"""How tables of texts spell a missing number, date or truth value; in a column of texts they are texts."""


def to_unicode(text: str) -> str:
    """Return `text` with lone surrogates, as JSON can spell them, replaced."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def plain_value(value: Any) -> Any:
    """Return a value as a column can hold it: objects and lists in lists as JSON, None for a missing one."""
    if isinstance(value, str):
        return to_unicode(value) or None
    if value is None or value != value:
        return None
    if isinstance(value, (list, tuple)) and not any(isinstance(item, (list, tuple, dict)) for item in value):
        return [plain_value(item) for item in value]
    if isinstance(value, (list, tuple, dict)):
        return to_unicode(json.dumps(value, ensure_ascii=False, default=str))
    return value


def convert_value(value: Any, kind: pa.DataType) -> Any:
    """Return a value as a column of type `kind` stores it; None for a missing one.

    Raises:
        ValueError: The column cannot hold it.
    """
    if value is None or value != value:
        return None
    if types.is_string(kind) or types.is_large_string(kind):
        return _text(value)
    if isinstance(value, str) and value in MISSING_CELLS:
        return None
    if types.is_list(kind):
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{value!r} is no list")
        return [convert_value(item, kind.value_type) for item in value]
    for applies, convert in _CONVERTERS:
        if applies(kind):
            return convert(value)
    if types.is_decimal(kind):
        return _decimal(value, kind)
    raise ValueError(f"{value!r} is no {kind}")


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return None if value in ("NaN", "<NA>", "NULL") else to_unicode(value)
    if isinstance(value, (Decimal, timedelta)):
        return str(value)
    if isinstance(value, (date, time)):  # and datetime
        return value.isoformat()
    return to_unicode(json.dumps(value, ensure_ascii=False, default=str))


def _int(value: Any) -> int:
    number = int(value) if isinstance(value, (str, Decimal)) else value
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if not isinstance(number, int) or not -(2**63) <= number < 2**64:
        raise ValueError(f"{value!r} is no whole number")
    return number


def _float(value: Any) -> float:
    if isinstance(value, (str, int, float, Decimal)):
        return float(value)
    raise ValueError(f"{value!r} is no number")


def _bool(value: Any) -> bool:
    known = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}
    if isinstance(value, bool):
        return value
    if str(value).lower() in known:
        return known[str(value).lower()]
    raise ValueError(f"{value!r} is neither true nor false")


def _timestamp(value: Any) -> datetime:
    if isinstance(value, str):
        return datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    raise ValueError(f"{value!r} is no time")


def _date(value: Any) -> date:
    if isinstance(value, str):
        return date.fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    raise ValueError(f"{value!r} is no date")


def _time(value: Any) -> time:
    if isinstance(value, time):
        return value
    return time.fromisoformat(str(value))


def _duration(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    return timedelta(seconds=_float(value))


def _decimal(value: Any, kind: pa.Decimal128Type) -> Decimal:
    try:
        number = Decimal(value if isinstance(value, (int, str, Decimal)) else repr(value))
        pa.scalar(number, kind)
    except (InvalidOperation, pa.ArrowException, TypeError) as error:
        raise ValueError(f"{value!r} is no {kind}") from error
    return number


_CONVERTERS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[Any], Any]], ...] = (
    (types.is_integer, _int),
    (types.is_floating, _float),
    (types.is_boolean, _bool),
    (types.is_timestamp, _timestamp),
    (types.is_date, _date),
    (types.is_time, _time),
    (types.is_duration, _duration),
)

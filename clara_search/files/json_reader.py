"""The one reader of JSON out of files, tables, models and ledgers: bounded, strict, with errors of one line.

Its rules: UTF-8; bytes, values and levels of nesting up to their limits; no key twice in an object. In a document, such
as a configuration, numbers are finite and whole ones have at most 64 bits. In a row of data a number that is not finite
is null, as programs write a missing one, and whole numbers may be longer.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from clara_search.errors import FormatError
from clara_search.files.limits import JSON_BYTES, JSON_DEPTH, JSON_VALUES, Limit
from clara_search.files.regular import read_regular

_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
"""A string, also one without an end, or a bracket."""

_LEVEL = {"[": 1, "{": 1, "]": -1, "}": -1}

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

_INTEGERS = range(-(1 << 63), 1 << 64)


def parse_json(content: str | bytes, where: object, *, is_row: bool = False) -> Any:
    """Return the value in `content`.

    Args:
        content: The JSON; bytes are UTF-8.
        where: The file, or the part of it, for errors.
        is_row: Whether it is data, in which numbers may be infinite (they become None) or of more than 64 bits.

    Raises:
        FormatError: It is no JSON, or more than the limits `json_bytes`, `json_values` and `json_depth` allow, or
            breaks a rule of this module. The message begins with `where` and has line and column.
    """
    JSON_BYTES.check(len(content), where)
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
        JSON_VALUES.check(text.count(",") + text.count("[") + text.count("{"), where)
        _check_depth(text, where)
        if is_row:
            return _ROWS.decode(text)
        value = _DOCUMENTS.decode(text)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()  # raises for half of a character
        return value
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{where}: not JSON ({error})") from error


def parse_object(content: str | bytes, where: object, *, is_row: bool = False) -> dict[str, Any]:
    """Return the object in `content`. Raises FormatError as `parse_json` does, and for another value."""
    values = parse_json(content, where, is_row=is_row)
    if not isinstance(values, dict):
        raise FormatError(f"{where}: not a JSON object")
    return values


def read_json(path: Path, limit: Limit = JSON_BYTES) -> dict[str, Any]:
    """Return the object in a file of this machine.

    Args:
        path: The file.
        limit: The most bytes that it may have.

    Raises:
        OSError: The file cannot be read, or is no regular file.
        FormatError: It is larger, or `parse_object` raises it.
    """
    return parse_object(read_regular(path, limit), path)


def _check_depth(text: str, where: object) -> None:
    if text.count("[") + text.count("{") <= JSON_DEPTH.value:
        return
    depth = 0
    for match in _TOKEN.finditer(text):
        depth += _LEVEL.get(match[0], 0)
        if depth > JSON_DEPTH.value:
            raise JSON_DEPTH.exceeded(where)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen = set[str]()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"an object has the key {twice[:80]!r} twice")
    return values


def _integer(digits: str) -> int:
    number = int(digits)
    if number not in _INTEGERS:
        raise ValueError(f"a number of {len(digits)} digits, where at most 64 bits are expected")
    return number


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:40]} is not a finite number")
    return number


def _finite_or_none(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


_DOCUMENTS = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_integer, parse_float=_finite, parse_constant=_finite
)
_ROWS = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite_or_none, parse_constant=_finite_or_none)

"""Strict parsing of plain mappings into frozen dataclasses."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from clara_search.errors import ConfigError, FormatError

T = TypeVar("T")


@dataclass(frozen=True)
class Between:
    """Bounds of a field, written into its annotated type: of a number, of each number of a tuple or value of a dict.

    Attributes:
        low: Lowest value.
        high: Highest value.
        but: The one of the two that is itself out of bounds, if any.
    """

    low: float
    high: float
    but: float | None = None


def check_bounds(config: Any) -> None:
    """Raise ValueError, naming the field, if a field of a dataclass is out of the bounds in its annotation."""
    for name, hint in typing.get_type_hints(type(config), include_extras=True).items():
        bounds = next((x for x in getattr(hint, "__metadata__", ()) if isinstance(x, Between)), None)
        if bounds is None:
            continue
        value = getattr(config, name)
        if isinstance(value, dict):
            numbers = [(f"{name}.{key}", number) for key, number in value.items()]
        else:
            numbers = [(name, number) for number in (value if isinstance(value, tuple) else (value,))]
        for label, number in numbers:
            if not bounds.low <= number <= bounds.high or number == bounds.but:
                span = f"between {bounds.low:.10g} and {bounds.high:.10g}"
                but = "" if bounds.but is None else f", and not be {bounds.but:.10g}"
                raise ValueError(f"{label} must lie {span}{but}, got {number!r}")


def from_mapping(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Build a dataclass from plain values: nested dataclasses and dicts from nested mappings, tuples from lists.

    The field of a key that Python reserves has an underscore behind its name (`from_` for "from").

    Args:
        cls: The dataclass.
        values: Values by field.
        where: Name of the mapping, for errors.

    Raises:
        ConfigError: A key is unknown or missing, or a value is of another type. The message has `where` and the key,
            and the nearest known key.
    """
    hints = typing.get_type_hints(cls)
    known = {field.name.removesuffix("_"): field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise ConfigError(f"{where}: unknown key {key!r}" + (f", did you mean {near[0]!r}?" if near else ""))
    built = {known[key]: _convert(hints[known[key]], value, f"{where}.{key}") for key, value in values.items()}
    try:
        return cls(**built)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {str(error).replace(cls.__name__ + '.__init__()', '').strip()}") from error


def from_file(cls: type[T], values: Mapping[str, Any], path: object) -> T:
    """Build the dataclass `cls` from the `values` of a file that a program wrote, as `from_mapping` does.

    Raises:
        FormatError: A key is unknown or missing, or a value is of another type.
    """
    try:
        return from_mapping(cls, values, str(path))
    except ConfigError as error:
        raise FormatError(str(error)) from error


def _convert(expected: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(expected) and isinstance(expected, type):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: expected a table of settings, got {value!r}")
        return from_mapping(expected, value, where)
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_convert(arguments[0], item, where) for item in value)
    if origin is dict and isinstance(value, Mapping):
        return {key: _convert(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(f"{where}: expected one of {', '.join(map(repr, arguments))}, got {value!r}")
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where)
    if expected is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1e300:
        return float(value)
    if not isinstance(expected, type) or not isinstance(value, expected) or (expected is int and value is True):
        raise ConfigError(f"{where}: expected {getattr(expected, '__name__', expected)}, got {value!r}")
    return value

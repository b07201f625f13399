"""The options of commands by the arguments of the library that they set."""

from __future__ import annotations

import re

OPTIONS = {
    "data": "--data",
    "device": "--device",
    "fetch": "--fetch",
    "model": "--model",
    "overrides": "--set",
    "repair": "--repair",
    "table": "--table",
}
"""Errors of the library name arguments in backticks, such as `model`; a command prints --model instead."""

_ARGUMENT = re.compile(r"`(\w+)`")


def name_options(message: str) -> str:
    """Return an error message of the library with options in place of the arguments in backticks."""
    return _ARGUMENT.sub(lambda match: OPTIONS.get(match[1], match[0]), message)

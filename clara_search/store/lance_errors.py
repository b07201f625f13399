"""LanceDB's errors as one-line errors of this library."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from clara_search.errors import DatabaseError


@contextmanager
def translate_read_errors() -> Iterator[None]:
    """Raise LanceDB's errors on reading as DatabaseError."""
    try:
        yield
    except Exception as error:
        if not is_lance_error(error):
            raise
        raise DatabaseError(f"the table cannot be read, its files are damaged: {lance_reason(error)}") from error


def is_lance_error(error: Exception) -> bool:
    """Return whether an exception is one of those that LanceDB raises; it panics where it has not been finished."""
    return isinstance(error, (ValueError, RuntimeError)) or type(error).__name__ == "RustPanic"


def lance_reason(error: BaseException) -> str:
    """Return the message of an error of LanceDB on one line, without prefixes and lines of its source.

    Of an error of the operating system, only that system's message.
    """
    first = " ".join(str(error).split("This issue was likely")[0].split())
    if system := re.search(r'Os \{ code: \d+, kind: \w+, message: "([^"]+)"', first):
        return system[1]
    first = re.sub(r",? ?/\S+\.rs:\d+:\d+.*", "", first)
    return re.sub(r"^(Invalid input, |lance error: |LanceError\(\w+\): )+", "", first)

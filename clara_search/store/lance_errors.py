"""LanceDB's errors as one-line errors of this library."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from clara_search.errors import DatabaseError


@contextmanager
def translate_read_errors(message: str = "the table cannot be read, its files are damaged: {}") -> Iterator[None]:
    """Raise LanceDB's errors on reading as DatabaseError.

    Args:
        message: The message, with "{}" for the reason.
    """
    try:
        yield
    except BaseException as error:  # a panic is one
        if not is_lance_error(error):
            raise
        raise DatabaseError(message.replace("{}", lance_reason(error))) from error


def is_lance_error(error: BaseException) -> bool:
    """Return whether an exception is one of those that LanceDB raises, for files that are damaged or cannot be read."""
    return isinstance(error, (ValueError, RuntimeError, OSError)) or is_panic(error)


def is_panic(error: BaseException) -> bool:
    """Return whether an exception is a panic of Rust: LanceDB believes what files say of themselves."""
    return type(error).__name__ in ("RustPanic", "PanicException")


def lance_reason(error: BaseException) -> str:
    """Return the message of an error of LanceDB on one line, without prefixes and lines of its source.

    Of an error of the operating system, only that system's message.
    """
    if is_panic(error):
        return "LanceDB cannot make sense of them"
    first = " ".join(str(error).split("This issue was likely")[0].split())
    if system := re.search(r'Os \{ code: \d+, kind: \w+, message: "([^"]+)"', first):
        return system[1]
    first = re.sub(r",? ?/\S+\.rs:\d+:\d+.*", "", first)
    return re.sub(r"^(Invalid input, |lance error: |LanceError\(\w+\): )+", "", first)

"""LanceDB's errors as one-line errors of this library."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from clara_search.errors import DatabaseError, QueryError


@contextmanager
def translate_read_errors(where: str | None) -> Iterator[None]:
    """Raise LanceDB's errors on reading as QueryError if there is a filter `where`, else as DatabaseError."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        if where is None:
            raise DatabaseError(f"the table cannot be read, its files are damaged: {lance_reason(error)}") from error
        raise QueryError(f"the filter {where!r} cannot be used: {lance_reason(error)}") from error


def lance_reason(error: BaseException) -> str:
    """Return the message of an error of LanceDB on one line, without prefixes and lines of its source."""
    first = " ".join(str(error).split("This issue was likely")[0].split())
    first = re.sub(r",? ?/\S+\.rs:\d+:\d+.*", "", first)
    return re.sub(r"^(Invalid input, |lance error: |LanceError\(\w+\): )+", "", first)

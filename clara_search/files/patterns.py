"""Patterns that name several files: globs, and numbers in braces such as `train-{00000..00099}.tar`."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from clara_search.errors import SourceError
from clara_search.files.paths import is_url

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def expand_pattern(pattern: str | Path) -> list[str]:
    """Return the paths and URLs that `pattern` names, in order of name; URLs are not looked up.

    Raises:
        SourceError: No file matches, or a range of numbers is empty.
    """
    paths: list[str] = []
    for name in expand_ranges(pattern):
        matches = [name] if is_url(name) else sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - may be absolute
        if not matches:
            raise SourceError(f"no file matches {name!r}")
        paths += matches
    return paths


def expand_ranges(pattern: str | Path) -> list[str]:
    """Return `pattern` for each number of its ranges `{00..99}`. Raises SourceError for a range that is empty."""
    names = _expand_ranges(str(pattern))
    if not names:
        raise SourceError(f"{pattern}: the range is empty, and names nothing")
    return names


def _expand_ranges(pattern: str) -> list[str]:
    """Return `pattern` for each number of its `{00..99}`, leading zeros kept."""
    match = _RANGE.search(pattern)
    if match is None:
        return [pattern]
    first, last = match.groups()
    numbers = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    head, tail = pattern[: match.start()], pattern[match.end() :]
    return [name for number in numbers for name in _expand_ranges(head + number + tail)]

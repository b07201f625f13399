"""Segments of recordings: `start_s` and `end_s` of a manifest's row, checked, and written into a name."""

from __future__ import annotations

import math
from typing import Any


def parse_segment(start_s: Any, end_s: Any) -> tuple[float | None, float | None]:
    """Return the bounds of a segment in seconds, as a table has them: numbers, their text, or nothing.

    Args:
        start_s: Start in seconds; None for the start of the recording.
        end_s: End in seconds; None for the end of the recording.

    Raises:
        ValueError: One is no time of zero or more seconds, or the start is not before the end.
    """
    start, end = _parse_seconds(start_s), _parse_seconds(end_s)
    if (start or 0.0) >= (math.inf if end is None else end):
        raise ValueError(f"start_s {start} is not before end_s {end}")
    return start, end


def format_segment(start_s: float | None, end_s: float | None) -> str:
    """Return a segment as the fragment of a URL, such as "#t=1.5,4"; "" for a whole recording."""
    if start_s is None and end_s is None:
        return ""
    return f"#t={start_s or 0:g},{'' if end_s is None else f'{end_s:g}'}"


def _parse_seconds(value: Any) -> float | None:
    if value is None or value == "" or value != value:  # NaN is how tables without types mark an empty cell
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError(f"not a time in seconds: {value!r}")
    return seconds

"""Names, times and texts of hits on one line, for a terminal."""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import urlsplit

from clara_search.audio.times import LONGEST_S
from clara_search.text.printable import printable


def one_line(text: str) -> str:
    """Return `text` on one line, with its blanks as single spaces and what it hides as escapes."""
    return printable(" ".join(text.split()))


def short_name(uri: str | None, limit: int = 28) -> str:
    """Return the last part of a path or URL, shortened in the middle to at most `limit` characters."""
    uri = uri or ""
    name = one_line(last_part(uri))
    if len(name) <= limit:
        return name
    tail = limit // 2
    return f"{name[: limit - tail - 1]}…{name[-tail:]}"


def last_part(uri: str) -> str:
    """Return the last part of a path or URL, without its query; the whole where it has no name."""
    try:
        path = urlsplit(uri).path if "://" in uri else uri
    except ValueError:  # brackets that are no address
        path = uri
    return PurePosixPath(path).name or uri


def format_time(seconds: float) -> str:
    """Return `seconds` as minutes, seconds and tenths: 75.25 is "1:15.3"; the value of a broken row as it is."""
    if not abs(seconds) < LONGEST_S:
        return f"{seconds:g}"
    tenths = int(seconds * 10 + 0.5)
    return f"{tenths // 600}:{tenths % 600 // 10:02d}.{tenths % 10}"


def format_span(start_s: float | None, end_s: float | None, best_s: float | None = None) -> str:
    """Return a window as "0:05.0-0:15.0", with its best second as "... @0:07.5"; "" for a row without times."""
    best = "" if best_s is None else f" @{format_time(best_s)}"
    return "" if start_s is None or end_s is None else f"{format_time(start_s)}-{format_time(end_s)}{best}"


def format_probability(probability: float | None) -> str:
    """Return a probability as a whole percentage, "" where it is not known; only 0 is "0 %", only 1 "100 %"."""
    if probability is None:
        return ""
    if 0 < probability < 0.01:
        return "<1 %"
    return ">99 %" if 0.99 < probability < 1 else f"{probability:.0%}".replace("%", " %")


def format_found_by(vector_rank: int | None, text_rank: int | None) -> str:
    """Return the ranks of a hit of a hybrid search, as "vector 3, words 1"."""
    ranks = {"vector": vector_rank, "words": text_rank}
    return ", ".join(f"{name} {rank}" for name, rank in ranks.items() if rank is not None)

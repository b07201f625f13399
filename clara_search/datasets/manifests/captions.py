"""Several captions of a recording: rows of one path become one row with all of its texts."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from clara_search.datasets.manifests.rows import ManifestRow

Recording = tuple[str, float | None, float | None]


class Recurrences:
    """Recordings that come again after others, found in one pass with eight bytes a recording."""

    def __init__(self) -> None:
        self._hashes = array("q")
        self._last: Recording | None = None

    def add(self, recording: Recording) -> bool:
        """Note the recording of the next row; tell whether it is that of the last one."""
        if recording == self._last:
            return True
        self._last = recording
        self._hashes.append(hash(recording))
        return False

    def found(self) -> frozenset[int]:
        """Return the hashes of the recordings that come again."""
        hashes = np.sort(np.frombuffer(self._hashes, np.int64))
        return frozenset(hashes[1:][hashes[1:] == hashes[:-1]].tolist())


def gather_texts(rows: Iterable[ManifestRow], hashes: frozenset[int]) -> dict[Recording, tuple[str, ...]]:
    """Return all texts of the recordings with these hashes."""
    texts = dict[Recording, dict[str, None]]()
    for row in rows:
        if row.recording is not None and hash(row.recording) in hashes:
            texts.setdefault(row.recording, {}).update(dict.fromkeys(row.texts))
    return {recording: tuple(found) for recording, found in texts.items()}


def merge_captions(
    rows: Iterable[ManifestRow],
    scattered: dict[Recording, tuple[str, ...]],
    report_difference: Callable[[str], None],
) -> Iterator[ManifestRow]:
    """Yield `rows`, those of one recording with texts as one row with all of them.

    The further columns are those of the first row. A row that adds no text to the first one, but has other columns,
    stays a row of its own.

    Args:
        rows: The rows of a manifest.
        scattered: The texts of recordings whose rows are not next to each other, from `gather_texts`.
        report_difference: Called with each column in which merged rows differ.
    """
    first: ManifestRow | None = None
    texts, others = dict[str, None](), list[ManifestRow]()
    """The texts of the recording that is read, and its rows that stay of their own, which follow the first."""
    seen = dict[Recording, ManifestRow]()
    """The first rows of scattered recordings."""
    for row in rows:
        recording = row.recording
        is_scattered = recording in scattered
        before = seen.get(recording) if recording is not None and is_scattered else first
        if recording is None or before is None or before.recording != recording:
            if first is not None:
                yield _with_texts(first, texts)
                yield from others
            first, texts, others = None, dict.fromkeys(row.texts), []
            if recording is None:
                yield row
            elif is_scattered:
                seen[recording] = row
                yield row._replace(texts=scattered[recording])
            else:
                first = row
            continue
        is_same = row.columns == before.columns and row.language == before.language
        adds_text = not set(row.texts) <= (set(before.texts) if is_scattered else texts.keys())
        if not (adds_text or is_same):
            others.append(row)
            continue
        for name in () if is_same else _differing(row, before):
            report_difference(name)
        if not is_scattered:
            texts.update(dict.fromkeys(row.texts))
    if first is not None:
        yield _with_texts(first, texts)
    yield from others


def _with_texts(row: ManifestRow, texts: dict[str, None]) -> ManifestRow:
    return row if len(texts) == len(row.texts) else row._replace(texts=tuple(texts))


def _differing(row: ManifestRow, first: ManifestRow) -> list[str]:
    names = dict.fromkeys([*first.columns, *row.columns])
    differing = [name for name in names if row.columns.get(name) != first.columns.get(name)]
    return differing + ["language"] * (row.language != first.language)

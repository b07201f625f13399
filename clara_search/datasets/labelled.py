"""Recordings with labels: every column of a manifest, not only those that every recording has."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clara_search.datasets.example import METADATA_FIELDS, ByteRange, Example
from clara_search.datasets.readers import (
    MANIFEST_SUFFIXES,
    SPLIT_NAMES,
    OnError,
    expand_pattern,
    local_recording,
    read_examples,
    read_rows,
)
from clara_search.errors import ClaraError, ConfigError, FormatError, SourceError

_HALF = re.compile("[\ud800-\udfff]")
"""Half a surrogate pair: what reading makes of bytes that are no UTF-8."""

SEPARATOR = ","
"""Between the labels of a cell that holds several."""


@dataclass(frozen=True)
class Clip:
    """A recording and all that its manifest says of it.

    Attributes:
        key: its path as the manifest has it, or its key in a shard.
        audio: where it lies.
        columns: every column of its row that is not empty.
    """

    key: str
    audio: Path | ByteRange
    columns: Mapping[str, Any]

    @property
    def text(self) -> str:
        """What is said in it, or "" where nothing says so."""
        text = self.columns.get("text", "")
        return str(text[0] if isinstance(text, list) and text else text or "").strip()

    @property
    def language(self) -> str:
        """Code of the text's language, "und" where unknown."""
        return str(self.columns.get("text_language") or self.columns.get("language") or "und")

    @property
    def split(self) -> str | None:
        """The side on which its collection puts it: "train", "valid", "test", what else the manifest says, or None."""
        said = self.value("split")
        return None if said is None else SPLIT_NAMES.get(said.lower(), said)

    @property
    def source(self) -> str:
        """The collection it comes from, "" where nothing says so."""
        return self.value("source") or ""

    def value(self, column: str) -> str | None:
        """Return what stands in `column` as text, None where nothing or no number does; 3.0 and 3 are the same."""
        value = self.columns.get(column)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, float) and math.isnan(value):  # what pandas writes where there is nothing
            value = None
        return None if value is None else str(value).strip() or None

    def values(self, column: str) -> tuple[str, ...]:
        """Return the labels in `column`: of a list each item, of a text the parts between commas."""
        value = self.columns.get(column)
        parts = value if isinstance(value, (list, tuple)) else (self.value(column) or "").split(SEPARATOR)
        return tuple(part for part in (str(part).strip() for part in parts) if part)


def read_clips(pattern: str | Path, report: OnError | None = None) -> list[Clip]:
    """Return the recordings of every place that `pattern` names: manifests with a column `path`, shards, folders.

    Raises SourceError where there is none or a manifest is broken; a single bad row is given to `report`, where there
    is one, and stepped over.
    """
    found: list[Clip] = []
    problem = report or _raise
    first: ClaraError | None = None

    def noted(error: ClaraError) -> None:
        nonlocal first
        first = first or error
        problem(error)

    for place in expand_pattern(pattern):
        if Path(place).suffix.lower() in MANIFEST_SUFFIXES:
            found += _of_manifest(place, noted)
        else:
            found += map(_of_example, read_examples(place, noted))
    if not found:
        raise SourceError(f"{pattern}: names no recording" + (f" that can be used ({first})" if first else ""))
    return found


def check_column(clips: Sequence[Clip], column: str, where: object) -> None:
    """Raise ConfigError, listing the columns that there are, where no clip has anything in `column`."""
    if any(column in clip.columns for clip in clips):
        return
    names = sorted({name for clip in clips for name in clip.columns})
    raise ConfigError(f"{where}: has no column {column!r}, or nothing in it; it has {', '.join(names)}")


def format_counts(labels: Iterable[str]) -> dict[str, int]:
    """Return how often each label occurs, in order of name."""
    return dict(sorted(Counter(labels).items()))


def _raise(error: ClaraError) -> None:
    raise error


def _of_manifest(place: str, report: OnError) -> Iterator[Clip]:
    for number, row in enumerate(read_rows(place), start=1):
        path = row.get("path")
        if not isinstance(path, str) or not path:
            report(FormatError(f"{place}: row {number} has no path"))
            continue
        if any(isinstance(value, str) and _HALF.search(value) for value in row.values()):
            report(FormatError(f"{place}: row {number} is not UTF-8"))
            continue
        try:
            audio = local_recording(place, path, f"{place}: row {number}")
        except ClaraError as error:
            report(error)
            continue
        columns = {str(name): value for name, value in row.items() if name and value not in (None, "", [])}
        yield Clip(path, audio.absolute(), columns)


def _of_example(example: Example) -> Clip:
    columns = {name: getattr(example, name) for name in METADATA_FIELDS}
    columns = {name: value for name, value in columns.items() if value not in (None, "", ())}
    if example.stored is not None:
        return Clip(example.key, example.stored, columns)
    assert isinstance(example.audio, Path)
    return Clip(example.key, example.audio.absolute(), columns)

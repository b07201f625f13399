"""Clips: recordings with all columns of their manifest, for probing and calibration."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clara_search.datasets.example import METADATA_FIELDS, Example
from clara_search.datasets.manifests import DEFAULT_COLUMNS, Manifest, ManifestColumns, ManifestRow
from clara_search.datasets.metadata import SPLIT_NAMES, parse_text
from clara_search.datasets.readers import read_source
from clara_search.datasets.recordings import locate_row
from clara_search.errors import ClaraError, ConfigError, FormatError, SourceError
from clara_search.files.paths import suffix_of
from clara_search.files.patterns import expand_pattern
from clara_search.files.shards import ByteRange
from clara_search.files.tables import MANIFEST_SUFFIXES, OnError, raise_error

SEPARATOR = ","
"""Between the labels of a cell that holds several."""


@dataclass(frozen=True)
class Clip:
    """A recording, or a segment of one, with the columns of its manifest.

    Attributes:
        key: Its path as the manifest has it, or its key in a shard, with its segment.
        audio: A path, a URL, or the part of a shard that holds the encoded file.
        columns: The columns of its row that are not empty.
        start_s: Start of the segment in seconds, None for the start of the recording.
        end_s: End of the segment in seconds, None for the end of the recording.
    """

    key: str
    audio: Path | str | ByteRange
    columns: Mapping[str, Any]
    start_s: float | None = None
    end_s: float | None = None

    @property
    def text(self) -> str:
        """Its transcript or caption, "" for none."""
        text = self.columns.get("text", "")
        return str(text[0] if isinstance(text, list) and text else text or "").strip()

    @property
    def language(self) -> str:
        """Code of the text's language, "und" where unknown."""
        return str(self.columns.get("text_language") or self.columns.get("language") or "und")

    @property
    def split(self) -> str | None:
        """Split in its collection: "train", "valid", "test", another name that the manifest has, or None."""
        split = self.value("split")
        return None if split is None else SPLIT_NAMES.get(split.lower(), split)

    @property
    def source(self) -> str:
        """Name of its collection, "" where unknown."""
        return self.value("source") or ""

    def value(self, column: str) -> str | None:
        """Return the value in `column` as text, None for an empty one or NaN; 3.0 and 3 are the same."""
        value = self.columns.get(column)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, float) and math.isnan(value):  # pandas writes it for an empty cell
            value = None
        return None if value is None else str(value).strip() or None

    def values(self, column: str) -> tuple[str, ...]:
        """Return the labels in `column`: the items of a list, or the parts of a text between commas."""
        value = self.columns.get(column)
        parts = value if isinstance(value, (list, tuple)) else (self.value(column) or "").split(SEPARATOR)
        return tuple(part for part in (str(part).strip() for part in parts) if part)


def read_clips(
    pattern: str | Path, report: OnError = raise_error, columns: ManifestColumns = DEFAULT_COLUMNS
) -> list[Clip]:
    """Return the clips of every source that `pattern` names.

    Args:
        pattern: Path, glob, range or URL of manifests of recordings, shards and folders.
        report: Called with the error of each row that cannot be used; raises by default.
        columns: What the columns of manifests are, where that is not to be recognised.

    Raises:
        SourceError: No source matches, one cannot be read, or they hold no usable recording.
        FormatError: A manifest is broken as a whole.
    """
    clips: list[Clip] = []
    errors: list[ClaraError] = []

    def collect(error: ClaraError) -> None:
        if not errors:
            errors.append(error)
        report(error)

    for path in expand_pattern(pattern):
        if suffix_of(path) in MANIFEST_SUFFIXES:
            clips += _manifest_clips(path, collect, columns)
        else:
            for example in read_source(path, collect):
                try:
                    clips.append(_clip_of_example(path, example))
                except FormatError as error:
                    collect(error)
    if not clips:
        raise SourceError(f"{pattern}: names no recording" + (f" that can be used ({errors[0]})" if errors else ""))
    return clips


def check_column(clips: Sequence[Clip], column: str, where: object) -> None:
    """Raise ConfigError, listing the columns of `clips`, where no clip has a value in `column`."""
    if any(column in clip.columns for clip in clips):
        return
    names = sorted({name for clip in clips for name in clip.columns})
    raise ConfigError(f"{where}: has no column {column!r}, or nothing in it; it has {', '.join(names)}")


def count_labels(labels: Iterable[str]) -> dict[str, int]:
    """Return the number of occurrences of each label, in order of name."""
    return dict(sorted(Counter(labels).items()))


def _manifest_clips(path: str, report: OnError, columns: ManifestColumns) -> Iterator[Clip]:
    manifest = Manifest(path, columns)
    manifest.require("recordings")
    for row in manifest.rows(report):
        try:
            yield _clip_of_row(path, row)
        except FormatError as error:
            report(error)


def _clip_of_row(path: str, row: ManifestRow) -> Clip:
    where = f"{path}, line {row.line}"
    if row.content is not None:
        raise FormatError(f"{where} holds its recording itself: make shards of the manifest first")
    key, audio = locate_row(path, row, where)
    assert isinstance(audio, (str, Path))  # no content
    text = row.texts[0] if len(row.texts) == 1 else list(row.texts)
    values = {"path": row.path, **row.columns, "text": text, "language": row.language}
    columns = {str(name): value for name, value in values.items() if value not in (None, "", [])}
    for name, value in columns.items():
        if isinstance(value, str):
            parse_text(value, f"{where}: {name}")
    audio = audio.absolute() if isinstance(audio, Path) else audio
    return Clip(key, audio, columns, row.start_s, row.end_s)


def _clip_of_example(path: str, example: Example) -> Clip:
    columns = {name: getattr(example, name) for name in METADATA_FIELDS}
    columns = {name: value for name, value in columns.items() if value not in (None, "", ())}
    if example.stored is not None:
        return Clip(example.key, example.stored, columns)
    if not isinstance(example.audio, Path):
        raise FormatError(f"{path}: is compressed: decompress it first, recordings are read from within a shard")
    return Clip(example.key, example.audio.absolute(), columns)

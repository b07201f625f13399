"""Whether a copy of a published dataset is complete: what its tables list, what is there, and what there should be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from clara_search.datasets.dataset import Dataset
from clara_search.datasets.layouts import read_dataset

ALL = "all"


@dataclass(frozen=True)
class PartCounts:
    """Recordings of a part of a dataset.

    Attributes:
        listed: Recordings that the tables, or the names of files, list.
        found: Those that are there.
        expected: Recordings that the publisher states; None where none are stated.
    """

    listed: int
    found: int
    expected: int | None

    @property
    def is_complete(self) -> bool:
        """Whether nothing that is listed or stated is missing."""
        return self.found == self.listed and self.listed >= (self.expected or 0)


@dataclass(frozen=True)
class Completeness:
    """What a copy of a dataset holds.

    Attributes:
        parts: Counts of "all", of each split and fold, and of every part that the publisher states the size of.
        missing: Names of the recordings that are listed and not there.
        rows: Rows of the tables: captions, where a recording has several.
    """

    parts: Mapping[str, PartCounts]
    missing: tuple[str, ...]
    rows: int

    @property
    def is_complete(self) -> bool:
        """Whether nothing that is listed or stated is missing."""
        return all(part.is_complete for part in self.parts.values())


def check_dataset(dataset: Dataset, root: Path) -> Completeness:
    """Count the recordings of a copy of a dataset; none is opened.

    Args:
        dataset: Its declaration.
        root: The folder that it was downloaded to.

    Raises:
        SourceError: The folder is missing, or has another layout.
        FormatError: A table is broken, or lacks a column.
    """
    listed: dict[str, set[str]] = {ALL: set()}
    missing: dict[str, None] = {}
    rows = 0
    for row in read_dataset(dataset, root):
        rows += 1
        if row.audio is None:
            missing[row.name] = None
        for part in _parts(dataset, row.columns):
            listed.setdefault(part, set()).add(row.name)
    for part in dataset.counts:
        listed.setdefault(part, set())
    parts = {
        part: PartCounts(len(names), len(names - missing.keys()), dataset.counts.get(part))
        for part, names in sorted(listed.items())
    }
    return Completeness(parts, tuple(missing), rows)


def _parts(dataset: Dataset, columns: Mapping[str, str]) -> Iterator[str]:
    yield ALL
    stated = {part.partition("=")[0] for part in dataset.counts if part != ALL}
    for column in {"split", "fold"} | stated:
        if column in columns:
            yield f"{column}={columns[column]}"

"""The interface of a source format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import ClassVar

from clara_search.datasets.manifests import DEFAULT_COLUMNS, Manifest, ManifestColumns
from clara_search.files.paths import is_url, suffix_of
from indexer.sources.columns import ColumnType, value_type, widen
from indexer.sources.item import Item, Survey

LINKS = "symbolic links"
"""Files and folders that are not looked at, unless links are followed."""

REPEATED = "listed before"
"""Items that an earlier source lists too."""


@dataclass(frozen=True)
class Selection:
    """Options for listing sources.

    Attributes:
        columns: what the columns of manifests and shards are, where that is not to be recognised.
        column_types: types of further columns, by their name in a table.
        ignore: patterns of files and folders to leave out, matched with the name and with the path in its source.
        follow_symlinks: whether to follow symbolic links in folders.
        audio_member: what the names of recordings in shards end in, such as "mix.wav"; None: each key has one.
        sniff: whether files in folders whose suffix is not known are recordings if their content looks like one.
        track: number of the audio track, from 1, of recordings with several; None: the one flagged as default.
        left_alone: counts what sources hold beside their items, by kind: a suffix, or `LINKS`.
        manifests: manifests that were surveyed, by path or name; others are surveyed before they are listed.
    """

    columns: ManifestColumns = DEFAULT_COLUMNS
    column_types: Mapping[str, ColumnType] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    follow_symlinks: bool = False
    audio_member: str | None = None
    sniff: bool = False
    track: int | None = None
    left_alone: Counter[str] = field(default_factory=Counter, compare=False)
    manifests: Mapping[str, Manifest] = field(default_factory=dict)

    def is_ignored(self, path: str) -> bool:
        """Tell whether to leave out `path`, relative to its source."""
        name = path.rpartition("/")[2]
        return any(fnmatchcase(name, pattern) or fnmatchcase(path, pattern) for pattern in self.ignore)


class SourceReader(ABC):
    """A source format: turns a path or URL into items.

    A subclass is one line in `indexer.sources.registry.READERS`, or an entry point of another package in the group
    `clara_search.sources`.

    Attributes:
        suffixes: suffixes of the files that the format reads, in lower case, dot included.
    """

    suffixes: ClassVar[frozenset[str]] = frozenset()

    def accepts(self, path: str) -> bool:
        """Tell whether this format reads `path`, a URL or an existing absolute path."""
        return suffix_of(path) in self.suffixes

    def survey(self, path: str, selection: Selection) -> Survey:
        """Count the items of `path` and type their further columns, before any work is spent on them.

        By default all items of a local path are listed; of a URL nothing is known before its end.

        Raises:
            SourceError: `path` cannot be read.
            FormatError: its content is broken.
        """
        if is_url(path):
            return Survey(None, {})
        count, types = 0, dict[str, ColumnType]()
        for item in self.items(path, selection):
            count += 1
            for name, value in item.columns.items():
                widen(types, name, value_type(value))
        return Survey(count, types)

    @abstractmethod
    def items(self, path: str, selection: Selection) -> Iterator[Item]:
        """Yield the items of `path` in order; an entry that cannot be used is an item with a problem.

        Names that were read from the file must pass `clara_search.files.gate.admit`, as `row_item` has them do.

        Raises:
            SourceError: `path` cannot be read.
            FormatError: its content is broken.
        """

    def listed_files(self, path: str) -> list[str]:
        """Return the files in `path` that are read to their end, so that what they no longer list is gone.

        Empty for a folder, whose recordings are gone only when they are missing.
        """
        return [path]

"""What the columns of a manifest are: as the user says, and as it was found out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ManifestColumns:
    """What the columns of manifests are, where it is not to be recognised by their names.

    Attributes:
        path: The column that names or holds the recordings; None: recognise it; "": there are none, all rows are texts.
        text: The column that holds the texts; None: recognise it.
        renamed: Columns to rename, their old names by their new ones.
        encoding: Encoding of CSV, TSV and JSON files; None: UTF-8 or UTF-16.
    """

    path: str | None = None
    text: str | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    encoding: str | None = None


DEFAULT_COLUMNS = ManifestColumns()


@dataclass(frozen=True)
class Layout:
    """The positions of columns in the rows of a block.

    Attributes:
        paths: Names of recordings; the first that a row has counts.
        contents: Recordings themselves, in the same way.
        texts: Texts, all of which count.
        language: Language of the texts.
        start: Start of a segment, in seconds.
        end: Its end.
        duration: Its length, where no column has its end.
        further: All other columns, with their names.
    """

    paths: tuple[int, ...] = ()
    contents: tuple[int, ...] = ()
    texts: tuple[int, ...] = ()
    language: int | None = None
    start: int | None = None
    end: int | None = None
    duration: int | None = None
    further: tuple[tuple[int, str], ...] = ()

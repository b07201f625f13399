"""What a declaration of a published dataset says: where recordings and labels stand, and how it is scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """How a collection's tables are written.

    Attributes:
        delimiter: between cells.
        header: names of the columns, where no row says them.
        comment: lines that begin so are passed over; "" for none.
    """

    delimiter: str = ","
    header: tuple[str, ...] = ()
    comment: str = ""


@dataclass(frozen=True)
class Dataset:
    """Where a collection's recordings and labels stand, and how it is to be scored.

    What is in braces is a field: a named group of `pattern`, a column of a table, `folder` (of the table) or `number`
    (of the row, from 0).

    Attributes:
        name: what `prepare` and a manifest's column `source` call it.
        files: globs of its tables, or without a `table` of its recordings; the first that matches anything counts.
        pattern: regular expression over the path of such a file, whose named groups are fields; others are passed over.
        columns: columns of the manifest, by what they hold. `split` and `fold` are the collection's own.
        labels: those of the columns that can be asked for.
        table: how a table is written; None where the names of recordings say all.
        audio: where the recording of a row lies; the first that is there counts, ".*" stands for any kind of audio.
        words: what the codes in a field mean; an unknown one stays as it is.
        named_in: for a column, a table beside the others and its columns of codes and of their words.
        multi_label: whether a recording may have several labels at once, with commas between them.
        speaker_folds: where nothing is published, this many folds are made, and no speaker stands in two of them.
        language: code of the language; "zxx" where nobody speaks. A column `language` goes before it.
        aliases: what model cards call it as well.
    """

    name: str
    files: tuple[str, ...]
    pattern: str
    columns: Mapping[str, str]
    labels: tuple[str, ...]
    table: Table | None = None
    audio: tuple[str, ...] = ()
    words: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    named_in: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)
    multi_label: bool = False
    speaker_folds: int = 0
    language: str = "en"
    aliases: tuple[str, ...] = ()

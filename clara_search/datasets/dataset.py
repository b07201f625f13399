"""The declaration of a published dataset: its tables, recordings, labels and folds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """Format of a dataset's tables.

    Attributes:
        delimiter: Character between cells.
        header: Names of the columns, for tables without a header row.
        comment: Prefix of lines to skip; "" for none.
        line: Regular expression with named groups that each line matches, for tables without a delimiter.
        each: In JSON and YAML, the name of a list of objects in each record: there is a row for each of them.
    """

    delimiter: str = ","
    header: tuple[str, ...] = ()
    comment: str = ""
    line: str = ""
    each: str = ""


@dataclass(frozen=True)
class Dataset:
    """A published dataset: where its recordings and labels are, and how it is scored.

    Names in braces are fields: the named groups of `pattern`, the columns of a table, `folder` (of the table) and
    `number` (of the row, from 0).

    Attributes:
        name: Its name, for `prepare` and in the manifest's column `source`.
        files: Globs of its tables, or without a `table` of its recordings; the first with a match is used.
        pattern: Regular expression over the paths of these files, whose named groups are fields; other files are
            skipped.
        columns: Formats of the manifest's columns. `split` and `fold` are those that the dataset publishes.
        licence: What its publisher allows, in short; "" where that is to be read at its home.
        citation: The paper to cite.
        home: Where it is published.
        counts: Numbers of recordings that the publisher states, or that its tables list: by "all", or by a column and
            its value such as "split=test". Empty where they differ by version or language.
        labels: Columns that hold labels.
        captions: Formats of the captions of a recording, where a row holds several: each becomes a row with its `text`.
        split_lists: For a split the file that lists its recordings; others are "train".
        table: Format of its tables; None where file names hold all fields.
        audio: Formats of the path of a row's recording; the first that exists is used. A path that ends with ".*" is a
            recording of any format.
        words: Words for the codes in a field; other codes stay as they are.
        named_in: For a column a table, and its columns of codes and of words.
        multi_label: Whether a recording may have several labels, separated by commas.
        speaker_folds: Number of folds to make, each speaker in one of them, where none are published.
        language: Language code; "zxx" for no speech. A column `language` takes precedence.
        aliases: Other names of the dataset in model cards.
    """

    name: str
    files: tuple[str, ...]
    pattern: str
    columns: Mapping[str, str]
    licence: str
    citation: str
    home: str
    counts: Mapping[str, int] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    split_lists: Mapping[str, str] = field(default_factory=dict)
    table: Table | None = None
    audio: tuple[str, ...] = ()
    words: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    named_in: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)
    multi_label: bool = False
    speaker_folds: int = 0
    language: str = "en"
    aliases: tuple[str, ...] = ()

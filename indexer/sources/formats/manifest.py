"""Manifests: CSV, TSV, JSON lines, Parquet and Arrow files with a `path`, `url` or `text` column and further ones.

Parquet and Arrow files may hold the recordings themselves, in a column `audio` as Hugging Face's `datasets` writes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from clara_search.errors import ConfigError, FormatError
from clara_search.files.paths import FileStat, stat_file, suffix_of
from clara_search.files.tables import AUDIO_COLUMN, MANIFEST_SUFFIXES, Row, read_table
from indexer.sources.base import Selection, SourceReader
from indexer.sources.columns import (
    ITEM_COLUMNS,
    RESERVED_COLUMNS,
    ColumnType,
    plain_value,
    to_unicode,
    value_type,
    wider_type,
)
from indexer.sources.item import Item, Survey
from indexer.sources.row import row_item

_WHOLE_NUMBER = re.compile(r"-?(0|[1-9]\d{0,17})")
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")


class ManifestReader(SourceReader):
    """CSV, TSV, JSON lines, Parquet and Arrow files with a column `path`, `url`, `audio` or `text`."""

    suffixes = frozenset(MANIFEST_SUFFIXES)

    def survey(self, path: str, selection: Selection) -> Survey:
        """Read the manifest to its end: count its rows and type its further columns.

        In CSV and TSV, where all is text, a column of plain numbers counts as numbers; "007" is none.

        Raises:
            FormatError: it is broken, has no rows, or has none of the columns that an item needs.
            ConfigError: it has no column `selection.text_column`.
        """
        text_column = selection.text_column
        type_of_cell = _csv_value_type if _is_csv(path) else value_type
        count, types = 0, dict[str, ColumnType]()
        names = set[str]()
        for row in _rows(path):
            count += 1
            if not names.issuperset(row.values):
                names |= row.values.keys()
                _check_names(path, row, text_column)
            names |= {AUDIO_COLUMN} if row.content is not None else set()
            for name, value in row.values.items():
                if value is not None and name not in ITEM_COLUMNS and name != text_column:
                    types[name] = wider_type(types.get(name), type_of_cell(value))
        if count == 0:
            raise FormatError(f"{path}: holds no rows")
        listed = ", ".join(sorted(names))
        if text_column is not None and text_column not in names:
            raise ConfigError(f"{path}: has no column '{text_column}' (it has {listed})")
        if not names & {"path", "url", AUDIO_COLUMN, text_column or "text"}:
            message = f"has neither a 'path' nor a 'text' column (it has {listed}): rename one, or name the text column"
            raise FormatError(f"{path}: {message}")
        return Survey(count, types)

    def items(self, path: str, selection: Selection) -> Iterator[Item]:
        """Yield an item per row: audio if it has a path or URL (relative to the manifest) or a recording, else text."""
        stat: FileStat | None = None
        for row in _rows(path):
            if row.content is not None and stat is None:
                stat = stat_file(path)
            yield row_item(path, row, selection.text_column or "text", stat)


def _check_names(path: str, row: Row, text_column: str | None) -> None:
    for name in row.values:
        column = f"{path}, line {row.line}: column '{name}'"
        if name in RESERVED_COLUMNS and name != text_column:
            raise FormatError(f"{column} has a name that the table uses itself: rename it")
        if not name or name.startswith("_") or "." in name or "`" in name:
            raise FormatError(f"{column} cannot be a column of a table: rename it, without a leading '_', '.' and '`'")
    if text_column not in (None, "text") and "text" in row.values:
        raise ConfigError(f"{path}: has a column 'text' beside the text column '{text_column}': rename or drop it")


def _csv_value_type(cell: str) -> ColumnType:
    if _WHOLE_NUMBER.fullmatch(cell):
        return "int"
    return "float" if _NUMBER.fullmatch(cell) else "text"


def _is_csv(path: str) -> bool:
    return suffix_of(path) in (".csv", ".tsv")


def _rows(path: str) -> Iterator[Row]:
    """Yield the rows of a manifest, with values as a table can hold them."""
    for row in read_table(path):
        values = {to_unicode(name): plain_value(value) for name, value in row.values.items()}
        yield Row(row.line, values, row.content)

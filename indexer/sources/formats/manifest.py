"""Manifests: CSV, TSV, JSON, Parquet and Arrow files, and tables in memory: recordings, texts and further columns."""

from __future__ import annotations

from collections.abc import Iterator

from clara_search.datasets.manifests import Manifest
from clara_search.datasets.manifests.columns import Layout
from clara_search.errors import ClaraError, FormatError
from clara_search.files.paths import FileStat, stat_file
from clara_search.files.tables import DELIMITED_SUFFIXES, MANIFEST_SUFFIXES, SCP_SUFFIX, Block, TableSource
from indexer.sources.base import Selection, SourceReader
from indexer.sources.columns import (
    CAPTIONS,
    CAPTIONS_COLUMN,
    TEXT,
    ColumnType,
    arrow_type,
    cell_type,
    table_name,
    value_type,
    widen,
)
from indexer.sources.item import Item, Survey
from indexer.sources.row import manifest_item
from indexer.sources.values import plain_value


class ManifestReader(SourceReader):
    """Tables with a column that names or holds recordings, or one of texts."""

    suffixes = frozenset((*MANIFEST_SUFFIXES, SCP_SUFFIX))

    def survey(self, path: str, selection: Selection) -> Survey:
        """Read the manifest to its end: count its rows and type its further columns.

        Raises:
            FormatError: it is broken as a whole, has no rows, or has none of the columns that an item needs.
            ConfigError: it lacks a column that `selection` names, or two could name the recordings.
        """
        return survey_manifest(path, path, selection)

    def items(self, path: str, selection: Selection) -> Iterator[Item]:
        """Yield an item per row: audio if it names or holds a recording, else text.

        Rows of one recording with several texts are one item; a broken line is an item with a problem.
        """
        manifest = selection.manifests.get(path) or Manifest(path, selection.columns)
        return manifest_items(path, manifest, selection)


def survey_manifest(name: str, source: TableSource, selection: Selection) -> Survey:
    """Return the survey of a table, by its path or URL, or in memory. Raises as `ManifestReader.survey` does."""
    manifest = Manifest(source, selection.columns, name)
    types = _FurtherTypes(manifest, selection, is_text=name.lower().endswith(DELIMITED_SUFFIXES))
    manifest.survey(_ignore, types.add)
    manifest.require_rows()
    return Survey(manifest.count, types.found(), {name: manifest})


def manifest_items(file: str, manifest: Manifest, selection: Selection) -> Iterator[Item]:
    """Yield the items of a manifest.

    Args:
        file: its path or URL; "" for a table in memory.
        manifest: the manifest, which is surveyed if that was not done.
        selection: types that the user gave further columns.
    """
    problems = list[ClaraError]()
    stat: FileStat | None = None
    for row in manifest.rows(problems.append):
        yield from _broken_lines(file, manifest.name, problems)
        if row.content is not None and stat is None:
            stat = stat_file(file) if file else FileStat(0, "")
        yield manifest_item(file, row, stat, selection.column_types)
    yield from _broken_lines(file, manifest.name, problems)


def _broken_lines(file: str, name: str, problems: list[ClaraError]) -> Iterator[Item]:
    """Yield an item with a problem for each error, and forget them."""
    for error in problems:
        line, _, reason = str(error).removeprefix(f"{name}, line ").removeprefix(f"{name}, element ").partition(": ")
        number = int(line) if line.isdecimal() else 0
        yield Item(file, "text", f"{file}#L{number}", number, problem=reason or str(error))
    problems.clear()


class _FurtherTypes:
    """The types of the further columns of a manifest, block by block."""

    def __init__(self, manifest: Manifest, selection: Selection, is_text: bool) -> None:
        self._manifest = manifest
        self._given = selection.column_types
        self._is_text = is_text
        self._types = dict[str, ColumnType]()
        self._names = dict[str, str]()

    def add(self, block: Block, layout: Layout) -> None:
        """Take in the values of a block. Raises FormatError if two columns would have one name in a table."""
        for position, column in layout.further:
            stored = table_name(column)
            if self._names.setdefault(stored, column) != column:
                raise FormatError(
                    f"{self._manifest.name}: the columns '{self._names[stored]}' and '{column}' would both be "
                    f"'{stored}': rename one with `columns`"
                )
            if stored != column:
                self._manifest.naming.tell(f"the column '{column}' is kept as '{stored}'")
            if block.types is not None:
                widen(self._types, stored, arrow_type(block.types[position]))
            elif self._types.get(stored) != TEXT:
                self._add_values(stored, [row[position] for row in block.rows if row[position] is not None])

    def found(self) -> dict[str, ColumnType]:
        """Return the types by name in a table."""
        captions = {CAPTIONS_COLUMN: CAPTIONS} if self._manifest.has_captions else {}
        given = {name: kind for name, kind in self._given.items() if name in self._names}
        return {**self._types, **captions, **given}

    def _add_values(self, column: str, values: list[object]) -> None:
        if not self._is_text:
            for value in values:
                widen(self._types, column, value_type(plain_value(value)))
            return
        cells = {str(value) for value in values}
        for cell in cells:
            widen(self._types, column, cell_type(cell))
        if self._types.get(column) == TEXT and column not in self._given and all(map(_is_number, cells)):
            example = max(cells, key=lambda cell: (cell_type(cell) == TEXT, len(cell), cell))
            self._manifest.naming.tell(
                f"the column '{column}' is kept as text: numbers would not keep {example!r} as it is (`column_types`)"
            )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _ignore(error: ClaraError) -> None:
    pass

"""Labels to choose from, as they are typed or in a file."""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Iterable
from pathlib import Path

from clara_search.errors import FormatError, SourceError
from clara_search.files.paths import is_url, suffix_of
from clara_search.files.tables import MANIFEST_SUFFIXES, read_blocks, read_lines

LABEL_COLUMNS = ("label", "labels", "class", "category", "display_name", "name")
"""Columns of a file that hold its labels, unless one is named: the first of these that is there."""

_FILE_NAME = re.compile(r"\S+\.[A-Za-z]{2,8}")

_log = logging.getLogger(__name__)


def read_labels(labels: str, column: str | None = None) -> list[str]:
    """Return the labels of a comma-separated list, or of the file that `labels` names.

    Args:
        labels: Labels, those with commas in double quotes; or the path or URL of a file: a table such as CSV, or a text
            with one label a line.
        column: The column of a table that holds them; by default the first of LABEL_COLUMNS.

    Returns:
        The labels. A file may repeat one, which is then given once.

    Raises:
        SourceError: The file is missing or cannot be read.
        FormatError: It is no text, has no such column, or has no labels.
    """
    path = Path(labels)
    try:
        is_file = is_url(labels) or path.is_file()
    except (OSError, ValueError):  # too long for a name, or not ours to read
        is_file = False
    if is_file:
        return _unique(
            _table_labels(labels, column) if suffix_of(labels) in MANIFEST_SUFFIXES else read_lines(labels), labels
        )
    listed = _split(labels)
    if len(listed) == 1 and _looks_like_path(labels):
        raise SourceError(f"{labels}: no such file that can be read; labels are separated by commas")
    return listed


def _looks_like_path(label: str) -> bool:
    return "/" in label or "\\" in label or _FILE_NAME.fullmatch(label) is not None


def _split(labels: str) -> list[str]:
    try:
        cells = next(csv.reader([labels], skipinitialspace=True), [])
    except csv.Error:  # a line end, or more than a cell may hold
        cells = labels.split(",")
    return [cell.strip() for cell in cells]


def _table_labels(path: str, column: str | None) -> Iterable[str]:
    for block in read_blocks(path):
        number = _column_number(block.names, column, path)
        yield from ("" if row[number] is None else str(row[number]) for row in block.rows)


def _column_number(names: tuple[str, ...], column: str | None, path: str) -> int:
    if column is not None and column in names:
        return names.index(column)
    folded = [name.casefold() for name in names]
    known = [folded.index(name) for name in LABEL_COLUMNS if column is None and name in folded]
    if known:
        return known[0]
    wanted = f"no column {column!r}" if column is not None else "no column of labels"
    listed = ", ".join(name for name in names if name) or "none"
    raise FormatError(
        f"{path}: {wanted}; it has {listed}: name one with `label_column`, or name a file without a header .txt"
    )


def _unique(lines: Iterable[str], path: str) -> list[str]:
    """Return labels without blank ones and repetitions."""
    labels = [label for line in lines if (label := line.strip())]
    unique = list(dict.fromkeys(labels))
    if not unique:
        raise FormatError(f"{path}: has no labels")
    if len(unique) < len(labels):
        _log.info("%s: %d labels, %d of them different", path, len(labels), len(unique))
    return unique

"""Reading a table of any format, in blocks or row by row, from a path, a URL or memory.

A broken line costs that line: it is given to `report`, which raises by default. A table that is broken as a whole
raises.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Union

from clara_search.files.paths import suffix_of
from clara_search.files.tables.columnar import read_arrow, read_columnar
from clara_search.files.tables.delimited import read_delimited
from clara_search.files.tables.json_rows import read_json
from clara_search.files.tables.rows import Block, OnError, Row, raise_error
from clara_search.files.tables.scp import read_scp

if TYPE_CHECKING:
    import pyarrow as pa

TableSource = Union[str, "pa.Table"]
"""A path, a URL or a table in memory."""

COLUMNAR_SUFFIXES = (".parquet", ".arrow", ".feather")
DELIMITED_SUFFIXES = (".csv", ".tsv")
MANIFEST_SUFFIXES = (*DELIMITED_SUFFIXES, ".jsonl", ".ndjson", ".json", *COLUMNAR_SUFFIXES)
"""Suffixes of the files that are tables, in lower case."""

SCP_SUFFIX = ".scp"


def read_blocks(
    source: TableSource,
    report: OnError = raise_error,
    encoding: str | None = None,
    header: Sequence[str] = (),
) -> Iterator[Block]:
    """Yield the rows of a table in blocks with the same columns; a header without rows is an empty block.

    Args:
        source: Path or URL of a file with one of `MANIFEST_SUFFIXES`, or an Arrow table.
        report: Called with the error of a line that is broken: no text, no JSON, too many or too few cells.
        encoding: Encoding of a text file; None: UTF-8 or UTF-16, whichever it is.
        header: Columns of a CSV file that is separated by `|` and does not name them.

    Raises:
        FormatError: The table is broken as a whole.
        SourceError: The file cannot be read; `Unreachable` where it is a URL.
    """
    if not isinstance(source, str):
        return read_arrow(source, report)
    suffix = suffix_of(source)
    if suffix in COLUMNAR_SUFFIXES:
        return read_columnar(source, report)
    if suffix in DELIMITED_SUFFIXES:
        return read_delimited(source, suffix, report, encoding, header)
    if suffix == SCP_SUFFIX:
        return read_scp(source, report, encoding)
    return read_json(source, report, encoding)


def read_table(source: TableSource, report: OnError = raise_error, encoding: str | None = None) -> Iterator[Row]:
    """Yield the rows of a table, in order. Arguments and errors are those of `read_blocks`."""
    for block in read_blocks(source, report, encoding):
        for line, values in zip(block.lines, block.rows, strict=True):
            yield Row(line, dict(zip(block.names, values, strict=True)))

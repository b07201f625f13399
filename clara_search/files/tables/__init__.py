"""The reader of tables: CSV, TSV, JSON lines and arrays, Parquet and Arrow files, and tables in memory."""

from clara_search.files.tables.lines import read_lines
from clara_search.files.tables.read import (
    COLUMNAR_SUFFIXES,
    DELIMITED_SUFFIXES,
    MANIFEST_SUFFIXES,
    SCP_SUFFIX,
    TableSource,
    read_blocks,
    read_table,
)
from clara_search.files.tables.rows import Block, Cell, OnError, Row, raise_error

__all__ = [
    "COLUMNAR_SUFFIXES",
    "DELIMITED_SUFFIXES",
    "MANIFEST_SUFFIXES",
    "SCP_SUFFIX",
    "Block",
    "Cell",
    "OnError",
    "Row",
    "TableSource",
    "raise_error",
    "read_blocks",
    "read_lines",
    "read_table",
]

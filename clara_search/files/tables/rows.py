"""What a table gives: blocks of rows under one header, and single rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from clara_search.errors import ClaraError
from clara_search.files.limits import COLUMNS
from clara_search.files.shards import BytesSource

if TYPE_CHECKING:
    import pyarrow as pa

OnError = Callable[[ClaraError], None]
"""Called with an error that costs one row, or the rest of a file."""

ROWS_A_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class Cell:
    """Bytes in a row, such as a recording; of a memory-mapped file they are read on demand.

    Attributes:
        value: A scalar of Arrow.
        size: Number of bytes.
        name: What the data calls the recording, None if it has no name.
    """

    value: Any
    size: int
    name: str | None = None

    def read(self) -> bytes:
        """Return the bytes."""
        return bytes(self.value.as_buffer())

    def head(self, count: int) -> bytes:
        """Return the first `count` bytes, or all of fewer."""
        return bytes(self.value.as_buffer().slice(0, min(count, self.size)))


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        line: The line that it starts on, from 1; of Parquet and Arrow files its number.
        values: Its values by column, None where a cell is empty. Cells of CSV and TSV are text without the blanks
            around it.
        content: The recording that it holds, if any.
        name: URI of that recording, where it is not the file and the line.
    """

    line: int
    values: Mapping[str, Any]
    content: BytesSource | None = None
    name: str | None = None


class Block(NamedTuple):
    """Rows with the same columns.

    Attributes:
        names: The columns; a nameless one is "".
        types: Their types, of Parquet, Arrow and tables in memory; None elsewhere.
        lines: The line that each row starts on, from 1.
        rows: The values of each row, None where a cell is empty.
    """

    names: tuple[str, ...]
    types: tuple[pa.DataType, ...] | None
    lines: Sequence[int]
    rows: Sequence[Sequence[Any]]


def raise_error(error: ClaraError) -> None:
    """Raise `error`, the default of readers."""
    raise error


def make_blocks(names: tuple[str, ...], rows: Iterator[tuple[int, Sequence[Any]]]) -> Iterator[Block]:
    """Yield blocks of lines and rows without types; the first one also if there are no rows."""
    chunk = list(islice(rows, ROWS_A_BLOCK))
    yield _block(names, chunk)
    while chunk := list(islice(rows, ROWS_A_BLOCK)):
        yield _block(names, chunk)


def _block(names: tuple[str, ...], chunk: Iterable[tuple[int, Sequence[Any]]]) -> Block:
    lines, rows = [], []
    for line, row in chunk:
        lines.append(line)
        rows.append(row)
    return Block(names, None, lines, rows)


def check_width(names: Sequence[str], where: str) -> None:
    """Raise FormatError if a table has more columns than the limit."""
    COLUMNS.check(len(names), where)

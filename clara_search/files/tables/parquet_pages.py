"""What a Parquet file takes in memory, as the headers of its pages declare it, before one of them is unpacked.

What its footer says of sizes may be untrue. A page of a few bytes may declare gigabytes, and a text of its dictionary
may be repeated by each row. (pyarrow gives no access to page headers: structs of Thrift's compact protocol.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from clara_search.errors import FormatError
from clara_search.files.limits import BATCH_BYTES

_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
_HEADERS = {_DATA: 5, _DICTIONARY: 7, _DATA_V2: 8}
"""The field of a page's header, by the kind of page, that holds its number of values and their encoding."""

_PREFIXED = 7
"""The encoding of texts that begin like the one before them, and so may be longer than their page."""

_NUMBER_BYTES = 8
_FREE_ROWS, _ROWS_A_BYTE = 1_000_000, 1000
_SHORT_DICTIONARY = 1 << 14
_LONGEST_HEADER, _DEEPEST = 1 << 20, 8


@dataclass(frozen=True)
class Page:
    """What the header of a page declares: its kind, sizes in bytes, and values; `start` is where its content is."""

    kind: int
    size: int
    packed: int
    values: int
    encoding: int
    start: int


@dataclass
class PageSizes:
    """What the columns of a file take at most.

    Attributes:
        row: Bytes of a row, of columns without lists.
        repeated: Columns in lists whose texts are repeated very often: they are to be read as dictionaries.
    """

    row: int
    repeated: list[str]


def check_pages(metadata: Any, content: Any, where: str) -> PageSizes:
    """Check what the pages of a file declare.

    Args:
        metadata: Its `pyarrow.parquet.FileMetaData`.
        content: The file as a `pyarrow.Buffer`, mapped.
        where: Its path, for errors.

    Raises:
        FormatError: A row group would take more than `BATCH_BYTES` beyond its bytes, or the header of a page is broken.
    """
    data = memoryview(content).cast("B")  # signed, if a buffer is not asked
    if metadata.num_rows > max(_FREE_ROWS, _ROWS_A_BYTE * len(data)):
        raise FormatError(f"{where}: declares {metadata.num_rows:,} rows in {len(data):,} bytes")
    row, repeated = 0, dict[str, None]()
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        taken, group_row = 0, 0
        for position in range(group.num_columns):
            column, schema = group.column(position), metadata.schema.column(position)
            try:
                unbacked, longest, values = _column_sizes(column, schema, data, where)
            except (AttributeError, KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
                raise FormatError(f"{where}: not a readable Parquet file (the header of a page is broken)") from error
            taken += unbacked
            BATCH_BYTES.check(taken, where)
            if not schema.max_repetition_level:
                group_row += longest
            elif longest * values > BATCH_BYTES.value:
                BATCH_BYTES.check(longest if schema.physical_type == "BYTE_ARRAY" else longest * values, where)
                repeated[column.path_in_schema] = None
        row = max(row, group_row)
    return PageSizes(row, list(repeated))


def _column_sizes(column: Any, schema: Any, data: memoryview, where: str) -> tuple[int, int, int]:
    """Return the bytes that a column takes beyond those of the file, its longest value if repeated, and its values."""
    largest = unbacked = dictionary = longest = values = 0
    if schema.physical_type == "FIXED_LEN_BYTE_ARRAY":
        longest = int(schema.length)  # a null takes as much
    for page in _pages(column, data):
        if page.kind == _DICTIONARY:
            dictionary = page.size
            if schema.physical_type == "BYTE_ARRAY":
                BATCH_BYTES.check(dictionary, where)
                longest = max(longest, _longest_text(page, column.compression, data))
            continue
        largest = max(largest, page.size - page.packed)
        values += page.values
        if schema.max_repetition_level:
            unbacked += max(0, _NUMBER_BYTES * (page.values - page.size))
        if page.encoding == _PREFIXED:
            longest = max(longest, page.size)
    return largest + unbacked + dictionary, longest, values


def _pages(column: Any, data: memoryview) -> Iterator[Page]:
    """Yield the pages of a column, as many as pyarrow reads."""
    position = int(column.data_page_offset)
    if column.has_dictionary_page and 0 < column.dictionary_page_offset < position:
        position = int(column.dictionary_page_offset)
    left = int(column.num_values)
    while left > 0 and position < len(data):
        header, start = _Struct(data, position).read()
        kind, size, packed = header[1], header[2], header[3]
        inner = header.get(_HEADERS.get(kind, 0), {})
        if min(position, size, packed) < 0 or start + packed > len(data):
            raise ValueError(position)
        encoding = inner.get(4 if kind == _DATA_V2 else 2, 0)
        if kind in _HEADERS:
            yield Page(kind, size, packed, inner[1], encoding, start)
        left -= inner[1] if kind in (_DATA, _DATA_V2) else 0
        position = start + packed


def _longest_text(page: Page, compression: str, data: memoryview) -> int:
    """Return the bytes of the longest text of a dictionary, or those of a short dictionary."""
    import pyarrow as pa

    if page.size <= _SHORT_DICTIONARY:
        return page.size
    content = data[page.start : page.start + page.packed]
    try:
        if compression != "UNCOMPRESSED":
            content = memoryview(pa.Codec(compression.lower()).decompress(content, page.size))
    except (pa.ArrowException, OSError, ValueError):  # broken, or a codec with frames of its own
        return page.size
    longest = position = 0
    for _ in range(page.values):
        length = int.from_bytes(content[position : position + 4], "little")
        longest = max(longest, length)
        position += 4 + length
        if position >= len(content):
            break
    return min(longest, page.size)


class _Struct:
    """A struct of Thrift's compact protocol: its whole numbers and structs by the number of their field."""

    def __init__(self, data: memoryview, position: int) -> None:
        if position < 0:
            raise ValueError(position)
        self._data, self._position = data, position
        self._end = position + _LONGEST_HEADER

    def read(self, depth: int = 0) -> tuple[dict[int, Any], int]:
        """Return the fields and where the struct ends. Raises IndexError or ValueError if it is broken."""
        fields, number = dict[int, Any](), 0
        if depth > _DEEPEST:
            raise ValueError(depth)
        while byte := self._byte():
            number = number + (byte >> 4) if byte >> 4 else self._number()
            fields[number] = self._value(byte & 15, depth)
        return fields, self._position

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2):  # a truth value is in its type
            return kind == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._number()
        if kind == 7:
            self._position += 8
        elif kind == 8:
            length = self._unsigned()
            self._position += length
        elif kind in (9, 10):
            byte = self._byte()
            for _ in range(byte >> 4 if byte >> 4 < 15 else self._unsigned()):
                if byte & 15 in (1, 2):
                    self._byte()
                else:
                    self._value(byte & 15, depth + 1)
        elif kind == 12:
            return self.read(depth + 1)[0]
        else:
            raise ValueError(kind)
        return None

    def _byte(self) -> int:
        if self._position >= self._end:
            raise ValueError(self._position)
        self._position += 1
        return self._data[self._position - 1]

    def _unsigned(self) -> int:
        value = shift = 0
        while shift < 70:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
        raise ValueError(shift)

    def _number(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)

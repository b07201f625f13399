"""What the record batches of an Arrow file or stream take in memory, as they declare it, before one is unpacked.

A compressed body of kilobytes may declare gigabytes, which pyarrow takes before it unpacks. (pyarrow does not tell
whether a message is compressed: two numbers of its metadata, a FlatBuffer, do.)
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from clara_search.errors import FormatError
from clara_search.files.limits import BATCH_BYTES

_FILE_MARK, _FILE_MARK_BYTES = b"ARROW1", 8
_RECORD_BATCH, _DICTIONARY_BATCH = 3, 2
_HEADER_TYPE, _HEADER = 1, 2
_BUFFERS, _COMPRESSION = 2, 3
_DICTIONARY, _DATA, _IS_DELTA = 0, 1, 2
_LENGTH = 0
_FREE_ROWS = 1_000_000
_BUFFER_BYTES = 16


def open_batches(file: Any, where: object, most: int) -> Any:
    """Return the reader of the record batches of an Arrow file or stream, none of which takes more memory than `most`.

    Args:
        file: A seekable pyarrow file, at its start; the reader reads it.
        where: Its path, for errors.
        most: Bytes of the largest batch, or dictionary.

    Raises:
        FormatError: A batch declares more.
        OSError, pyarrow.ArrowException: It is no Arrow file.
    """

    def check(body: Body, _dictionaries: int) -> None:
        size = body.unpacked or body.length
        if size > most:
            raise FormatError(f"{where}: a batch of it takes {size:,} bytes, where at most {most:,} are expected")

    return _checked(file, check)


def open_mapped(file: Any, where: object) -> Any:
    """Return the reader of the record batches of a mapped Arrow file or stream, which takes at most `BATCH_BYTES`.

    That is what a batch and all dictionaries take together once they are unpacked; what is not compressed stays where
    it is. Arguments and errors are those of `open_batches`.
    """

    def check(body: Body, dictionaries: int) -> None:
        BATCH_BYTES.check(dictionaries + (0 if body.dictionary is not None else body.unpacked), where)
        if body.rows > max(_FREE_ROWS, 8 * (body.length + body.unpacked)):
            raise FormatError(f"{where}: a batch of it declares {body.rows:,} rows in {body.length:,} bytes")

    return _checked(file, check)


def _checked(file: Any, check: Callable[[Body, int], None]) -> Any:
    """Return a reader of a file once `check` had each body, and the bytes of all dictionaries so far."""
    from pyarrow import ipc

    # A file is a stream between its marks. (Its footer, which may lead anywhere in it, is not followed.)
    start = _FILE_MARK_BYTES if file.read(len(_FILE_MARK)) == _FILE_MARK else 0
    file.seek(start)
    messages, dictionaries = ipc.MessageReader.open_stream(file), dict[int, int]()
    with suppress(StopIteration):
        while True:
            body = read_body(messages.read_next_message())
            if body.dictionary is not None:
                before = dictionaries.get(body.dictionary, 0) if body.is_delta else 0
                dictionaries[body.dictionary] = before + body.unpacked
            check(body, sum(dictionaries.values()))
    file.seek(start)
    return ipc.open_stream(file)


@dataclass(frozen=True)
class Body:
    """What a message declares of its body.

    Attributes:
        length: Its bytes in the file.
        unpacked: Its bytes in memory if it is compressed, else 0.
        rows: Its rows, or texts of a dictionary.
        dictionary: Number of the dictionary that it is, or a part of which it is.
        is_delta: Whether it is added to that dictionary.
    """

    length: int
    unpacked: int = 0
    rows: int = 0
    dictionary: int | None = None
    is_delta: bool = False


def read_body(message: Any) -> Body:
    """Return what a `pyarrow.ipc.Message` declares of its body. Raises pyarrow.ArrowInvalid if that is broken."""
    import pyarrow as pa

    body = memoryview(message.body) if message.body is not None else memoryview(b"")
    try:
        metadata = memoryview(message.metadata)
        root = struct.unpack_from("<I", metadata)[0]
        kind = _field(metadata, root, _HEADER_TYPE)
        header = _table(metadata, root, _HEADER)
        dictionary, is_delta = None, False
        if kind and metadata[kind] == _DICTIONARY_BATCH:
            number, delta = _field(metadata, header, _DICTIONARY), _field(metadata, header, _IS_DELTA)
            dictionary = struct.unpack_from("<q", metadata, number)[0] if number else 0
            is_delta = bool(delta and metadata[delta])
            header = _table(metadata, header, _DATA)
        elif not kind or metadata[kind] != _RECORD_BATCH:
            return Body(len(body))
        length = _field(metadata, header, _LENGTH)
        rows = struct.unpack_from("<q", metadata, length)[0] if length else 0
        if not _field(metadata, header, _COMPRESSION):
            return Body(len(body), 0, rows, dictionary, is_delta)
        vector = _table(metadata, header, _BUFFERS)
        (count,) = struct.unpack_from("<I", metadata, vector)
        total = 0
        for number in range(count):
            offset, length = struct.unpack_from("<qq", metadata, vector + 4 + _BUFFER_BYTES * number)
            if length:
                (size,) = struct.unpack_from("<q", body, offset)
                total += length if size < 0 else size
        return Body(len(body), total, rows, dictionary, is_delta)
    except (struct.error, IndexError) as error:
        raise pa.ArrowInvalid("the metadata of a message are broken") from error


def _field(metadata: memoryview, table: int, number: int) -> int:
    """Return the position of a field of a FlatBuffer's table; 0 if it is not there."""
    vtable = table - struct.unpack_from("<i", metadata, table)[0]
    size = struct.unpack_from("<H", metadata, vtable)[0]
    place = 4 + 2 * number
    offset = struct.unpack_from("<H", metadata, vtable + place)[0] if place < size else 0
    return table + offset if offset else 0


def _table(metadata: memoryview, table: int, number: int) -> int:
    """Return the position of the table, or vector, that a field refers to. Raises IndexError without one."""
    field = _field(metadata, table, number)
    if not field:
        raise IndexError
    return int(field + struct.unpack_from("<I", metadata, field)[0])

"""What the record batches of an Arrow file or stream take in memory, as they declare it, before one is unpacked.

A compressed body of kilobytes may declare gigabytes, which pyarrow takes before it unpacks. (pyarrow does not tell
whether a message is compressed: two numbers of its metadata, a FlatBuffer, do.)
"""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Any

from clara_search.errors import FormatError

_FILE_MARK, _FILE_MARK_BYTES = b"ARROW1", 8
_RECORD_BATCH, _DICTIONARY_BATCH = 3, 2
_HEADER_TYPE, _HEADER = 1, 2
_BUFFERS, _COMPRESSION = 2, 3
_DATA = 1
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
    from pyarrow import ipc

    # A file is a stream between its marks. (Its footer, which may lead anywhere in it, is not followed.)
    start = _FILE_MARK_BYTES if file.read(len(_FILE_MARK)) == _FILE_MARK else 0
    file.seek(start)
    messages = ipc.MessageReader.open_stream(file)
    with suppress(StopIteration):
        while True:
            size = unpacked_bytes(messages.read_next_message())
            if size > most:
                raise FormatError(f"{where}: a batch of it takes {size:,} bytes, where at most {most:,} are expected")
    file.seek(start)
    return ipc.open_stream(file)


def unpacked_bytes(message: Any) -> int:
    """Return the bytes that the body of a `pyarrow.ipc.Message` takes in memory, as it declares them.

    Raises:
        pyarrow.ArrowInvalid: Its metadata are broken.
    """
    import pyarrow as pa

    body = memoryview(message.body) if message.body is not None else memoryview(b"")
    try:
        metadata = memoryview(message.metadata)
        root = struct.unpack_from("<I", metadata)[0]
        kind = _field(metadata, root, _HEADER_TYPE)
        header = _table(metadata, root, _HEADER)
        if kind and metadata[kind] == _DICTIONARY_BATCH:
            header = _table(metadata, header, _DATA)
        elif not kind or metadata[kind] != _RECORD_BATCH:
            return len(body)
        if not _field(metadata, header, _COMPRESSION):
            return len(body)
        vector = _table(metadata, header, _BUFFERS)
        (count,) = struct.unpack_from("<I", metadata, vector)
        total = 0
        for number in range(count):
            offset, length = struct.unpack_from("<qq", metadata, vector + 4 + _BUFFER_BYTES * number)
            if length:
                (size,) = struct.unpack_from("<q", body, offset)
                total += length if size < 0 else size
        return total
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

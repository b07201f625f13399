"""Reader of TensorFlow checkpoints: an index, which is a sorted table of entries, and one data file."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clara_search.errors import FormatError

_FOOTER = 48
_TRAILER = 5  # a byte for the compression, four for the checksum
_FLOAT = 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Message = dict[int, list[int | bytes]]
"""The fields of a protocol buffer by number, each with all its values."""


def read_variables(index: bytes, data: bytes) -> dict[str, npt.NDArray[np.float32]]:
    """Return the float32 variables of a checkpoint by name.

    Args:
        index: Content of the .index file.
        data: Content of the only .data file.

    Raises:
        FormatError: The index is broken, or an array exceeds the data.
    """
    try:
        footer = index[-_FOOTER:]
        position = 0
        for _ in range(2):  # offset and size of the meta index
            _, position = _varint(footer, position)
        offset, position = _varint(footer, position)
        size, _ = _varint(footer, position)
        entries = [
            (name.decode(), _Entry.parse(value))
            for _, handle in _block(index, offset, size)
            for name, value in _block(index, *_handle(handle))
            if name
        ]
        return {name: entry.read(data) for name, entry in entries if entry.dtype == _FLOAT}
    except (IndexError, struct.error, UnicodeDecodeError, ValueError) as error:
        raise FormatError(f"not an index of TensorFlow variables ({error})") from error


@dataclass(frozen=True)
class _Entry:
    dtype: int
    shape: tuple[int, ...]
    offset: int
    size: int

    @classmethod
    def parse(cls, value: bytes) -> _Entry:
        fields = read_message(value)
        (shape,) = fields.get(2, [b""])
        sizes = [read_message(_bytes(size)).get(1, [0])[0] for size in read_message(_bytes(shape)).get(2, [])]
        dtype, offset, size = (int(fields.get(number, [0])[0]) for number in (1, 4, 5))
        return cls(dtype, tuple(map(int, sizes)), offset, size)

    def read(self, data: bytes) -> npt.NDArray[np.float32]:
        return np.frombuffer(data, "<f4", self.size // 4, self.offset).reshape(self.shape)


def read_message(message: bytes) -> Message:
    """Return the fields of a protocol buffer.

    Raises:
        ValueError: A field has an unknown type.
    """
    fields: Message = {}
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        value: int | bytes
        if kind == _VARINT:
            value, position = _varint(message, position)
        elif kind in (_BYTES, _FIXED32, _FIXED64):
            size, position = _varint(message, position) if kind == _BYTES else (4 if kind == _FIXED32 else 8, position)
            value, position = message[position : position + size], position + size
        else:
            raise ValueError(f"a field of unknown type {kind}")
        fields.setdefault(number, []).append(value)
    return fields


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where a message belongs")
    return value


def _handle(value: bytes) -> tuple[int, int]:
    offset, position = _varint(value, 0)
    return offset, _varint(value, position)[0]


def _block(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a block, each key stored without the prefix that it shares with the key before."""
    if table[offset + size : offset + size + _TRAILER][0] != 0:
        raise ValueError("a compressed block")
    block = table[offset : offset + size]
    (restarts,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 - 4 * restarts
    position, key = 0, b""
    while position < end:
        shared, position = _varint(block, position)
        unshared, position = _varint(block, position)
        length, position = _varint(block, position)
        key = key[:shared] + block[position : position + unshared]
        position += unshared
        yield key, block[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Return the number at `position`, seven bits a byte, and the position after it."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7

"""Regular files of this machine, read up to a limit: no pipe blocks, no device is endless, no size is a lie.

A size is what `fstat` says of the file that is open, and at most one byte more is read: files of /proc, and those that
another process writes, hold more. A file that is nearly all holes has a size that nobody had to store or send.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from clara_search.errors import FormatError
from clara_search.files.limits import Limit
from clara_search.system import READ_FLAGS

_MAX_HOLE_BYTES = 1 << 24
"""Bytes that may be missing of any file."""

_MAX_HOLE_SHARE = 0.5


class NotRegular(OSError):
    """A pipe, a device, a socket or a folder, where a file is expected."""


def open_regular(path: str | Path) -> BufferedReader:
    """Open a regular file for reading bytes, without waiting for the writer of a pipe.

    Raises:
        OSError: It cannot be opened; `NotRegular` if it is no regular file.
    """
    descriptor = os.open(path, READ_FLAGS)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotRegular(None, "is no file, but a pipe, a device or a folder", str(path))
        return open(path, "rb", opener=lambda *_: descriptor)  # fdopen forgets the name
    except BaseException:
        os.close(descriptor)
        raise


def size_of(file: BinaryIO, path: str | Path, limit: Limit | None = None, error: type[Exception] = FormatError) -> int:
    """Return the size of an open regular file.

    Args:
        file: The file.
        path: Its path, for errors.
        limit: The most that is expected.
        error: Class of the error.

    Raises:
        Exception: Of the class `error`: the file is larger, or nearly all of it are holes.
    """
    size = os.fstat(file.fileno()).st_size
    if limit is not None:
        limit.check(size, path, error)
    if size > _MAX_HOLE_BYTES and size - _stored_bytes(file, size) > max(_MAX_HOLE_BYTES, _MAX_HOLE_SHARE * size):
        raise error(f"{path}: is a sparse file: of its {size:,} bytes most were never written")
    return size


def read_regular(path: str | Path, limit: Limit, error: type[Exception] = FormatError) -> bytes:
    """Return the content of a regular file, of which no more than its size and one byte is read.

    Args:
        path: The file.
        limit: The most bytes that are expected.
        error: Class of the error.

    Raises:
        OSError: It cannot be read, or is no regular file.
        Exception: Of the class `error`: it holds more than the limit, more than its own size, or mostly holes.
    """
    with open_regular(path) as file:
        size = size_of(file, path, limit, error)
        content = file.read(size + 1)
    if len(content) > size:
        raise error(f"{path}: holds more than the {size:,} bytes that it says it has")
    return content


def _stored_bytes(file: BinaryIO, size: int) -> int:
    """Return how many bytes of a file are no holes; its size where the file system cannot tell."""
    if not hasattr(os, "SEEK_DATA"):
        return size
    descriptor, stored, end = file.fileno(), 0, 0
    position = os.lseek(descriptor, 0, os.SEEK_CUR)
    try:
        while end < size:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
            stored += end - start
    except OSError as error:
        return stored if error.errno == errno.ENXIO else size  # a hole up to the end
    finally:
        os.lseek(descriptor, position, os.SEEK_SET)
    return stored

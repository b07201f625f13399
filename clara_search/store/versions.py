"""The versions of a table, checked before LanceDB opens it: none may name files outside of the table's folder.

A version can list base paths, any path or URL, from which LanceDB then reads the data: a database that somebody sent
would read this machine's files, or contact a store with the user's credentials. No version that this program writes
has them.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from clara_search.errors import DatabaseError, SourceError
from clara_search.files.limits import MIB, VERSION_BYTES
from clara_search.files.listing import clear_listing_cache, list_folder
from clara_search.files.network.stores import ask_store, error_reason
from clara_search.files.paths import FileStat, is_url, join, open_binary
from clara_search.files.regular import read_regular

_FOLDER, _SUFFIX = "_versions", ".manifest"
_TAIL = struct.Struct("<qHH4s")  # position of the message, version of the format, mark
_MARK = b"LANC"

_READER_FLAGS, _WRITER_FLAGS, _BASE_PATHS = 9, 10, 18
_USES_BASE_PATHS = 1 << 4
_FIXED = {1: 8, 5: 4}
_GROUPS = (3, 4)

_AT_ONCE = 16
_LARGE_BYTES = 4 * MIB
"""Versions are fetched several at once, larger ones one by one."""

_one_large = Lock()


class _Version(NamedTuple):
    """Path or URL of a version, its size in bytes, and what changes when it is written."""

    path: str
    size: int
    token: str


class _HasGroupError(Exception):
    """A protocol buffer has a group, whose fields are not followed."""


def check_versions(folder: str | Path) -> None:
    """Check the versions of the table in `folder`, which need not exist.

    Args:
        folder: The folder of the table, or its URL in an object store.

    Raises:
        DatabaseError: One of them names files elsewhere, or is larger than the limit `version_bytes`; or a store that
            holds them does not answer, or cannot be read for want of a client.
    """
    try:
        versions = _list_stored(str(folder)) if is_url(folder) else _list_here(Path(folder))
    except (FileNotFoundError, NotADirectoryError):  # no table yet, or a version that is gone since
        return
    except SourceError as error:  # no client is installed
        raise DatabaseError(f"{folder}: its versions cannot be checked before it is opened: {error}") from error
    except OSError as error:
        raise DatabaseError(f"{folder}: cannot be used ({error_reason(error)})") from error
    with ThreadPoolExecutor(_AT_ONCE) as threads:  # a store takes its time for each
        apply = threads.map if is_url(folder) else map
        for version, is_elsewhere in zip(versions, apply(_leads_elsewhere, versions), strict=True):
            if is_elsewhere:
                raise DatabaseError(
                    f"{version.path}: lets the table read files outside of its folder, which nothing here writes: it "
                    "is not opened"
                )


def _list_here(folder: Path) -> list[_Version]:
    with os.scandir(folder / _FOLDER) as entries:
        versions = [(entry.path, entry.stat()) for entry in entries if entry.name.endswith(_SUFFIX)]
    return [_Version(path, status.st_size, str(status.st_mtime_ns)) for path, status in versions]


def _list_stored(url: str) -> list[_Version]:
    """Return the versions of a table in a store. One whose commits another database keeps has further suffixes."""
    plain = url.partition("?")[0].replace("+ddb://", "://", 1)
    folder = join(plain, _FOLDER)
    clear_listing_cache(folder)
    return [
        _Version(entry.path, *(entry.stat or FileStat(0, "")))
        for entry in list_folder(folder)
        if not entry.is_folder and _SUFFIX in entry.name
    ]


def _leads_elsewhere(version: _Version) -> bool:
    with _one_large if version.size > _LARGE_BYTES else nullcontext():
        return _names_base_paths(*version)


def check_newest(folder: Path) -> None:
    """Check that the newest version of the table in `folder` is whole: LanceDB panics where it is not.

    Raises:
        ValueError: It is cut short, or its numbers lead out of it.
    """
    # Lance counts down in file names: the newest version comes first.
    newest = min((folder / _FOLDER).glob(f"[0-9]*{_SUFFIX}"), default=None)
    if newest is None:
        return
    content = read_regular(newest, VERSION_BYTES, DatabaseError)
    if len(content) >= _TAIL.size:
        position, *_ = _TAIL.unpack_from(content, len(content) - _TAIL.size)
        if 0 <= position <= len(content) - _TAIL.size - 4:
            (length,) = struct.unpack_from("<I", content, position)
            if position + 4 + length <= len(content) - _TAIL.size:
                return
    raise ValueError(f"its newest version, {newest.name}, is damaged")


@lru_cache(maxsize=4096)
def _names_base_paths(path: str, size: int, token: str) -> bool:
    """Tell whether a version names files elsewhere; False for one that is broken, which LanceDB says itself."""
    try:
        content = _fetch(path, size) if is_url(path) else read_regular(path, VERSION_BYTES, DatabaseError)
        position, _, _, mark = _TAIL.unpack_from(content, len(content) - _TAIL.size)
        (length,) = struct.unpack_from("<I", content, position)
        message = memoryview(content)[position + 4 : position + 4 + length]
        return mark == _MARK and any(
            number == _BASE_PATHS or (number in (_READER_FLAGS, _WRITER_FLAGS) and value & _USES_BASE_PATHS)
            for number, value in _fields(message)
        )
    except FileNotFoundError:
        return False
    except _HasGroupError:
        return True
    except (struct.error, IndexError):
        return False
    except OSError as error:
        raise DatabaseError(f"{path}: cannot be used ({error.strerror or error})") from error


def _fetch(url: str, size: int) -> bytes:
    VERSION_BYTES.check(size, url, DatabaseError)

    def read() -> bytes:
        with open_binary(url) as file:
            return file.read(size)

    return ask_store(url, read)


def _fields(message: memoryview) -> Iterator[tuple[int, int]]:
    """Yield number and value of the fields of a protocol buffer; of texts and messages their length."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind, value = key & 7, 0
        if kind in _FIXED:
            at += _FIXED[kind]
        else:
            value, at = (0, at) if kind in _GROUPS else _varint(message, at)
            if kind == 2:
                at += value
            elif kind in _GROUPS:  # nothing here writes them, and LanceDB reads on behind them
                raise _HasGroupError
            elif kind != 0:
                raise IndexError(kind)
        yield key >> 3, value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise IndexError(at)

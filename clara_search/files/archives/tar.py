"""Tar archives, read from front to end: plain, gzipped or compressed by Zstandard. Damage costs what it touches.

Nothing is ever extracted to a path: the names of members are names, however they are spelt.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple, cast

from clara_search.files.limits import MEMBER_BYTES, MEMBER_HEADER_BYTES

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_OTHERS = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip", b"Rar!": "rar", b"7z\xbc\xaf": "7-Zip"}
_MAGIC_BYTES = 6

_CHUNK = 1 << 20
_MAX_BLOCKS_BEFORE_A_HEADER = 1 << 17
"""64 MiB without a header at the front: this is no tar, and reading on would only take time."""

_TROUBLE = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, OverflowError)
"""What tarfile and the decompressors raise for damage."""


class TarEntry(NamedTuple):
    """A member of an archive that is no folder.

    Attributes:
        name: Its name, as it is spelt; bytes that are not UTF-8 are lone surrogates.
        content: Its bytes, None where they were not wanted.
        offset: Where its bytes start in the file; None where they do not lie there in one piece, uncompressed.
        size: Number of bytes.
        problem: Why it is not read.
    """

    name: str
    content: bytes | None
    offset: int | None
    size: int
    problem: str | None = None


class TarDamage(NamedTuple):
    """A part of an archive that cannot be read.

    Attributes:
        reason: What is wrong with it.
        is_end: Whether nothing behind it was read.
    """

    reason: str
    is_end: bool


class NotTar(Exception):
    """A file that is no tar archive."""


def read_tar(
    file: BinaryIO, is_stream: bool, is_wanted: Callable[[str, bool], bool] | None = None
) -> Iterator[TarEntry | TarDamage]:
    """Yield the members of an archive in order, and the damage between them.

    A broken header costs its member: the next header is looked for. Archives that were joined are read to the end.

    Args:
        file: The archive, at its start.
        is_stream: Whether it is read as it comes, without seeking.
        is_wanted: Tells by its name, and by whether they can be read later, by their offset, if the bytes of a member
            are read; None: of all.

    Raises:
        NotTar: It is no tar, or is packed in another way.
        OSError: It cannot be read.
    """
    head = file.read(_MAGIC_BYTES)
    for magic, name in _OTHERS.items():
        if head.startswith(magic):
            raise NotTar(f"is packed by {name}: repack it as .tar, .tar.gz or .tar.zst")
    is_compressed = head.startswith((_GZIP, _ZSTD))
    source = _Rewound(head, file)
    if is_compressed:
        archive = _Archive(_decompress(source, head), None)
    elif is_stream:
        archive = _Archive(source, None)
    else:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        archive = _Archive(file, size)
    while True:
        info, content, trouble, problem = None, None, "", None
        try:
            if (info := archive.next()) is not None and info.isfile():
                can_wait = not (is_stream or is_compressed or info.issparse())
                if info.issparse():  # ten kilobytes may stand for gigabytes
                    problem = "is a sparse file, of which the holes are not stored: pack it without --sparse"
                elif info.size > MEMBER_BYTES.value:
                    problem = MEMBER_BYTES.message(f"{info.size:,}", "it")
                elif is_wanted is None or is_wanted(info.name, can_wait):
                    content = archive.read(info)
        except _TROUBLE as error:
            trouble = " ".join(str(error).split()) or type(error).__name__
        except OSError as error:
            if not is_compressed or source.has_failed:
                raise
            trouble = " ".join(str(error).split())
        goes_on = bool(trouble) and info is None and archive.recover()
        yield from archive.damage()
        if goes_on:
            continue
        if not archive.entries and (trouble or archive.was_damaged):
            raise NotTar(trouble or "it has no header of a tar")
        if trouble:
            yield TarDamage(f"cut off within {info.name!r}" if info is not None else f"cut off: {trouble}", is_end=True)
            return
        if info is None:
            break
        if info.isfile():
            offset = None if is_compressed or info.issparse() else info.offset_data
            yield TarEntry(info.name, content, offset, info.size, problem)
        elif info.islnk() or info.issym():
            problem = f"is a link to {info.linkname!a}, which is not followed"
            yield TarEntry(info.name, None, None, 0, problem)
    if not archive.is_ended and not archive.was_damaged:
        yield TarDamage("it has no end mark: cut off?", is_end=True)


class _Archive:
    """An open archive whose headers are counted as tarfile reads them.

    Attributes:
        entries: Number of headers of members.
        is_ended: Whether an end mark was read, and no header after it.
        was_damaged: Whether there was any damage.
    """

    def __init__(self, file: Any, size: int | None):
        self.entries = 0
        self.is_ended = self.was_damaged = False
        self._bad_blocks = 0
        self._is_cut = False
        self._file = file
        self._size = size
        self._end = 0
        self._tar: Any = None

    def next(self) -> tarfile.TarInfo | None:
        """Return the next header. Raises one of `_TROUBLE` where it cannot be read."""
        if self._tar is None:
            self._tar = tarfile.open(  # noqa: SIM115 - the file is the caller's
                fileobj=self._file,
                mode="r|" if self._size is None else "r:",
                tarinfo=self._header_type(),
                ignore_zeros=True,  # goes on behind a broken header, and where archives were joined
                encoding="utf-8",
            )
        self._tar.members = []  # or all headers stay in memory
        if self._size is None and self.entries:
            self._skip_to(self._tar.offset)
        info = cast(tarfile.TarInfo | None, self._tar.next())
        if info is None:
            return None
        self.entries += 1
        if info.size < 0 or self._tar.offset <= self._end:  # or it would be read again and again
            raise tarfile.ReadError("a member of negative size")
        if self._size is not None and not info.issparse() and info.offset_data + info.size > self._size:
            raise tarfile.ReadError(f"unexpected end of data in {info.name!r}")
        self._end = self._tar.offset
        return info

    def read(self, info: tarfile.TarInfo) -> bytes:
        """Return the bytes of the last header's member. Raises one of `_TROUBLE` where some are missing."""
        with self._tar.extractfile(info) as content:
            return cast(bytes, content.read())

    def damage(self) -> Iterator[TarDamage]:
        """Yield what was read over since the last call."""
        self.was_damaged |= bool(self._bad_blocks) or self._is_cut
        if self._bad_blocks and self.entries:
            yield TarDamage(f"{self._bad_blocks * tarfile.BLOCKSIZE:,} bytes of it are no tar", is_end=False)
            self._bad_blocks = 0
        if self._is_cut:
            yield TarDamage("cut off within a header", is_end=True)
            self._is_cut = False

    def recover(self) -> bool:
        """Tell whether reading can go on behind a header that describes the next one, which is broken."""
        if self._tar is None or not self._bad_blocks:
            return False
        self._tar.offset = self._tar.fileobj.tell()
        return True

    def _skip_to(self, offset: int) -> None:
        """Read over the rest of a member; tarfile would not notice the end of the data."""
        while (missing := offset - self._tar.fileobj.tell()) > 0:
            if not self._tar.fileobj.read(min(missing, _CHUNK)):
                raise tarfile.ReadError("unexpected end of data")

    def _header_type(self) -> type[tarfile.TarInfo]:
        archive = self

        class Header(tarfile.TarInfo):
            @classmethod
            def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Header:
                try:
                    header = super().frombuf(buf, encoding, errors)
                    if header.size < 0 or (header.type in _DESCRIBING and header.size > MEMBER_HEADER_BYTES.value):
                        raise tarfile.InvalidHeaderError("a size that cannot be")  # type: ignore[attr-defined]
                except tarfile.HeaderError:
                    archive._note(buf)
                    raise
                archive.is_ended = False
                return header

        return Header

    def _note(self, block: bytes | bytearray) -> None:
        if not block:
            return
        if len(block) < tarfile.BLOCKSIZE:
            self._is_cut = bool(self.entries) and not self.is_ended
        elif not any(block):
            self.is_ended = True
        elif not self.is_ended:  # what follows an end mark may be anything
            self._bad_blocks += 1
            if not self.entries and self._bad_blocks > _MAX_BLOCKS_BEFORE_A_HEADER:
                raise NotTar("it has no header of a tar")


_DESCRIBING = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, b"X")


class _Rewound(io.RawIOBase):
    """A file of which some bytes were read already.

    Attributes:
        has_failed: Whether the file could not be read.
    """

    def __init__(self, head: bytes, file: BinaryIO):
        self.has_failed = False
        self._head = head
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            content = self._head[: len(buffer)] or self._file.read(len(buffer))
        except OSError:
            self.has_failed = True
            raise
        self._head = self._head[len(content) :]
        buffer[: len(content)] = content
        return len(content)


def _decompress(file: _Rewound, head: bytes) -> Any:
    if head.startswith(_GZIP):
        return gzip.GzipFile(fileobj=io.BufferedReader(file), mode="rb")
    import pyarrow as pa  # a fifth of a second

    return pa.CompressedInputStream(pa.PythonFile(io.BufferedReader(file), "r"), "zstd")

"""WebDataset shards: tar files whose members of one name, but for the suffix, are one example."""

from __future__ import annotations

import tarfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from clara_search.errors import FormatError
from clara_search.files.paths import is_url, key_and_suffix, open_binary, open_cached_copy, open_source, unreadable


class BytesSource(Protocol):
    """The bytes of a recording that is no file of its own."""

    @property
    def size(self) -> int:
        """Number of bytes."""

    def read(self) -> bytes:
        """Return the bytes."""


class ByteRange(NamedTuple):
    """A part of a file or URL, such as a member of a shard.

    Attributes:
        path: The file or URL.
        offset: Its first byte.
        size: Bytes.
    """

    path: str
    offset: int
    size: int

    def read(self) -> bytes:
        """Return the bytes; a URL is copied to this machine whole, once. Raises OSError where the file is shorter."""
        with open_cached_copy(self.path) if is_url(self.path) else open_binary(self.path) as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) < self.size:
            raise OSError(None, f"{self.path} ends within it")
        return content


class Member(NamedTuple):
    """A file in a shard.

    Attributes:
        content: Its bytes, None where they were skipped.
        offset: Where they start in the shard.
        size: Bytes.
    """

    content: bytes | None
    offset: int
    size: int


Members = dict[str, Member]
"""The members of an example, by suffix."""


def group_members(path: str | Path, skip: Collection[str] | None = None) -> Iterator[tuple[str, Members]]:
    """Yield key and members of each example of a shard, which is read once, from front to end.

    Args:
        path: Path or URL of the shard.
        skip: Suffixes of members that are stepped over and not read, which a shard of this machine allows.

    Raises:
        FormatError: The file is no tar, is gzipped, or is cut off.
        SourceError: It cannot be read; `Unreachable` where it is a URL.
    """
    key, members = "", Members()
    try:
        with open_source(path) as file:
            if file.seekable():
                if file.read(2) == b"\x1f\x8b":
                    raise FormatError(f"{path}: is gzipped, gunzip it first: recordings are read from within the shard")
                file.seek(0)
            with tarfile.open(fileobj=file, mode="r|" if skip is None else "r:") as archive:
                for info in archive:
                    archive.members = []  # type: ignore[attr-defined]  # or all headers of a shard stay in memory
                    if not info.isfile():
                        continue
                    next_key, suffix = key_and_suffix(info.name)
                    if next_key != key:
                        if members:
                            yield key, members
                        key, members = next_key, Members()
                    content = None
                    if skip is None or suffix not in skip:
                        reader = archive.extractfile(info)
                        assert reader is not None  # isfile() said so
                        content = reader.read()
                    members[suffix] = Member(content, info.offset_data, info.size)
    except (tarfile.TarError, EOFError) as error:
        raise FormatError(f"{path}: not a readable tar shard ({error})") from error
    except OSError as error:
        raise unreadable(path, error) from error
    if members:
        yield key, members

"""WebDataset shards: tar files whose members of one name, but for the suffix, are one example."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from clara_search.errors import FormatError
from clara_search.files.archives.tar import NotTar, TarDamage, TarEntry, read_tar
from clara_search.files.limits import EXAMPLE_MEMBERS, MEMBER_BYTES
from clara_search.files.listing import NO_SUFFIX
from clara_search.files.network.copies import open_cached_copy
from clara_search.files.paths import is_url, key_and_suffix, open_binary, open_source, unreadable

SHARD_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst")
"""What the names of shards end in, in lower case. How one is read is decided by its content."""


def is_shard(path: str) -> bool:
    """Tell whether the name of a file or URL is that of a shard."""
    return (urlsplit(path).path if is_url(path) else path).lower().endswith(SHARD_SUFFIXES)


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
        offset: Where they start in the shard; None where that is compressed.
        size: Bytes.
    """

    content: bytes | None
    offset: int | None
    size: int


Members = dict[str, Member]
"""The members of an example, by suffix."""


@dataclass(frozen=True)
class Group:
    """The members of a shard that follow one another and have one key, or a problem of the shard.

    Attributes:
        key: Their key; of a problem of the shard that of the group before, empty without one.
        members: The members by suffix, in lower case.
        problem: Why they cannot be used.
        hides_more: Whether the group stands for a part of the shard that cannot be read.
    """

    key: str
    members: Members = field(default_factory=Members)
    problem: str | None = None
    hides_more: bool = False


def group_members(
    path: str | Path, skip: Callable[[str, bool], bool] | None = None, left_alone: Counter[str] | None = None
) -> Iterator[Group]:
    """Yield the groups of a shard, which is read once, from front to end; what is broken in it is a group, too.

    The key of a member is its name up to the first dot behind its last slash, as WebDataset has it. A key that comes
    again behind another one is a problem, and so are two members with one suffix. Members without a key are left alone:
    names without a dot, and hidden files.

    Args:
        path: Path or URL of the shard, which may be compressed.
        skip: Tells by its suffix, and by whether its bytes can be read later, if a member is not read; None: all are.
        left_alone: Counts members without a key that are not hidden.

    Raises:
        FormatError: The file is no tar.
        SourceError: It cannot be read; `Unreachable` where it is a URL.
    """
    open_group, keys = _OpenGroup(""), set[int]()
    try:
        with open_source(path) as file:
            for entry in read_tar(file, is_url(path), skip and _wanted(skip)):
                if isinstance(entry, TarDamage):
                    yield from open_group.close()
                    what_follows = "; all that follows it is missing" if entry.is_end else ""
                    position = f" behind {_shown(open_group.key)}" if open_group.key else ""
                    problem = f"not a readable tar shard{position} ({entry.reason}){what_follows}"
                    yield Group(open_group.key, problem=problem, hides_more=True)
                    continue
                key, suffix = key_and_suffix(entry.name)
                if not key:
                    if left_alone is not None and not suffix.removeprefix("."):
                        left_alone[NO_SUFFIX] += 1
                    continue
                if key != open_group.key:
                    yield from open_group.close()
                    digest = _digest(key)
                    open_group = _OpenGroup(key, digest in keys)
                    keys.add(digest)
                open_group.add(suffix, entry)
    except NotTar as error:
        raise FormatError(f"{path}: not a readable tar shard ({error})") from error
    except OSError as error:
        raise unreadable(path, error) from error
    yield from open_group.close()


class _OpenGroup:
    """A group to which members are added."""

    def __init__(self, key: str, comes_again: bool = False):
        self.key = key
        self._members = Members()
        self._held = 0
        self._problem: str | None = None
        if comes_again:
            self._note("comes again: the members of a key have to follow one another, and a key ends at the first dot")

    def add(self, suffix: str, entry: TarEntry) -> None:
        if len(self._members) >= EXAMPLE_MEMBERS.value:
            self._note(str(EXAMPLE_MEMBERS.exceeded("it")))
            return
        self._held += len(entry.content or b"")
        if self._held > MEMBER_BYTES.value:
            self._note(str(MEMBER_BYTES.exceeded("its members together")))
            entry = entry._replace(content=None)
        if entry.problem is not None:
            self._note(f"its member {suffix}: {entry.problem}")
        elif suffix in self._members:
            self._note(f"has two members {suffix}: no two may have the same name")
        elif "::" in self.key + suffix:
            self._note(f"its name {_shown(self.key + suffix)} holds '::', which parts the names of shards: rename it")
        elif not _is_unicode(self.key + suffix):
            self._note("its name is not UTF-8: rename it")
        self._members[suffix] = Member(entry.content, entry.offset, entry.size)

    def close(self) -> Iterator[Group]:
        """Yield the group once, if it has members."""
        if self._members:
            yield Group(self.key if _is_unicode(self.key) else _shown(self.key), self._members, self._problem)
            self._members = Members()

    def _note(self, problem: str) -> None:
        self._problem = self._problem or f"key {_shown(self.key)}: {problem}"


def _wanted(skip: Callable[[str, bool], bool]) -> Callable[[str, bool], bool]:
    return lambda name, can_wait: not skip(key_and_suffix(name)[1], can_wait)


def _digest(key: str) -> int:
    """Return 64 bits of a digest: a shard may have millions of keys."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest)


def _is_unicode(name: str) -> bool:
    return name.isascii() or name == name.encode("utf-8", "replace").decode()


def _shown(name: str) -> str:
    return ascii(name) if not _is_unicode(name) else repr(name)

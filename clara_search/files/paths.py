"""Where bytes lie: paths of this machine, and URLs of whatever fsspec opens (s3, gs, http, a member of a tar ...)."""

from __future__ import annotations

import errno
import io
import os
import stat
import tarfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast

from clara_search.errors import ClaraError, FormatError, SourceError, first_line

_ATTEMPTS = 3
"""A store that answers with an error is asked again, unless the error says that there is nothing."""

_FIRST_RETRY_S = 0.2

_UNTRUSTED_NS = 2_000_000_000
"""A file as young as this when it was looked at may be written again within one tick of its file system's clock."""

_TOKENS = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "mtime", "updated", "last_modified", "created")
"""What the file systems of fsspec call a thing that changes with a file's content."""

T = TypeVar("T")


class FileStat(NamedTuple):
    """How large a file is, and a `token` that changes when it is written; empty where none can be trusted."""

    size: int
    token: str


class NamedBytes(io.BytesIO):
    """The bytes of a file, that know where they came from."""

    def __init__(self, content: bytes, name: str):
        super().__init__(content)
        self.name = name


def is_url(place: str | Path) -> bool:
    """Tell whether `place` is a URL, as against a path."""
    return "://" in str(place)


def is_remote(place: str | Path) -> bool:
    """Tell whether reading `place` asks another machine: it is a URL, or a member of a shard that is one."""
    member = split_member(place)
    return is_url(place if member is None else member[1])


def split_member(place: str | Path) -> tuple[str, str] | None:
    """Return key and shard of `tar://KEY::SHARD`, as a recording in a shard is called; None for anything else."""
    protocol, _, rest = str(place).partition("://")
    key, chain, shard = rest.partition("::")
    return (key, shard) if protocol == "tar" and key and chain and shard else None


def open_binary(place: str | Path) -> BinaryIO:
    """Open a file or URL to read bytes from. Raises OSError, or SourceError for a protocol that nobody speaks here."""
    if not is_url(place):
        return Path(place).open("rb")
    if (member := split_member(place)) is not None:
        return _open_member(*member)
    import fsspec  # a fifth of a second, and only for these

    return _asked(place, lambda: cast(BinaryIO, fsspec.open(str(place), "rb").open()))


def open_cached_copy(url: str) -> BinaryIO:
    """Open a copy of a URL on this machine, fetched whole once in this process. Raises as `open_binary` does."""
    import fsspec

    return _asked(url, lambda: cast(BinaryIO, fsspec.open(f"filecache::{url}", "rb").open()))


def _open_member(key: str, shard: str) -> BinaryIO:
    """Open the member `key` of a shard, its suffix in lower case, reading the shard from its front up to it.

    Not fsspec's own `tar://`, which lets a shard be a chain of any protocols.
    """
    try:
        with open_binary(shard) as file, tarfile.open(fileobj=file, mode="r|*" if is_url(shard) else "r:*") as archive:
            for member in archive:
                if member.isfile() and "".join(key_and_suffix(member.name)) == key:
                    content = archive.extractfile(member)
                    assert content is not None  # isfile() said so
                    return NamedBytes(content.read(), f"tar://{key}::{shard}")
    except (tarfile.TarError, EOFError) as error:
        raise FormatError(f"{shard}: not a readable tar shard ({error})") from error
    raise FileNotFoundError(errno.ENOENT, f"{shard}: has no member {key!r}")


def key_and_suffix(name: str) -> tuple[str, str]:
    """Return the two parts of a member's name as WebDataset has it: the suffix is everything behind the first dot."""
    folder, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    return folder + slash + stem, "." + suffix.lower()


def read_bytes(place: str | Path) -> bytes:
    """Return all bytes of a file or URL. Raises as `open_binary` does."""
    if not is_url(place):
        return Path(place).read_bytes()

    def read() -> bytes:
        with open_binary(place) as file:
            return file.read()

    return _asked(place, read)


def stat_file(place: str | Path) -> FileStat:
    """Return the status of a file or URL. Raises as `open_binary` does, and OSError for what is no file."""
    if (member := split_member(place)) is not None:
        return stat_file(member[1])
    if is_url(place):
        filesystem, path = resolve_filesystem(place)
        return stat_from_info(_asked(place, lambda: filesystem.info(path)))
    found = os.stat(place)  # noqa: PTH116 - of very many
    if not stat.S_ISREG(found.st_mode):
        raise OSError(None, "is no file, but a pipe, a device or a folder")
    is_young = time.time_ns() - found.st_mtime_ns < _UNTRUSTED_NS
    return FileStat(found.st_size, "" if is_young else str(found.st_mtime_ns))


def stat_from_info(info: Mapping[str, Any]) -> FileStat:
    """Return the status in what a file system of fsspec says of a file."""
    token = next((str(info[name]) for name in _TOKENS if info.get(name)), "")
    return FileStat(int(info.get("size") or 0), token)


def resolve_filesystem(place: str | Path) -> tuple[Any, str]:
    """Return fsspec's file system for a URL, and the path in it. Raises as `open_binary` does."""
    import fsspec

    return _asked(place, lambda: cast(tuple[Any, str], fsspec.core.url_to_fs(str(place))))


def normalize_path(place: str | Path) -> str:
    """Return a path absolute and without "..", symbolic links as they are; a URL without a "/" at its end."""
    return str(place).rstrip("/") if is_url(place) else os.path.normpath(Path(place).absolute())


def _asked(place: str | Path, question: Callable[[], T]) -> T:
    """Return the answer of another machine, asked again where it fails; whatever its library raises is an OSError."""
    for attempt in range(_ATTEMPTS):
        try:
            return question()
        except (FileNotFoundError, PermissionError, ClaraError):
            raise
        except (ImportError, ValueError) as error:
            raise SourceError(f"{place}: cannot be opened ({first_line(error)})") from error
        except Exception as error:  # each store's client has a tree of exceptions of its own
            if attempt == _ATTEMPTS - 1:
                raise OSError(None, first_line(error)) from error
            time.sleep(_FIRST_RETRY_S * 2**attempt)
    raise AssertionError

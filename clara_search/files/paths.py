"""Where bytes lie: paths of this machine, and URLs of whatever fsspec opens (s3, gs, http, a member of a tar ...)."""

from __future__ import annotations

import errno
import io
import operator
import os
import stat
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, cast
from urllib.parse import urlsplit

from clara_search.errors import FormatError, SourceError, first_line
from clara_search.files.stores import ask_store

_UNTRUSTED_NS = 2_000_000_000
"""A file as young as this when it was looked at may be written again within one tick of its file system's clock."""

_TOKENS = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "mtime", "updated", "last_modified", "created")
"""What the file systems of fsspec call a thing that changes with a file's content."""


class FileStat(NamedTuple):
    """How large a file is, and a `token` that changes when it is written; empty where none can be trusted."""

    size: int
    token: str


class FolderEntry(NamedTuple):
    """An entry of a folder: its name, its path or URL, and its size and token if the listing has them."""

    name: str
    path: str
    is_folder: bool
    is_link: bool = False
    stat: FileStat | None = None


class Unreachable(SourceError):
    """A URL that cannot be read now: nothing is known of what it holds."""


class NamedBytes(io.BytesIO):
    """The bytes of a file, that know where they came from."""

    def __init__(self, content: bytes, name: str):
        super().__init__(content)
        self.name = name


def is_url(place: str | Path) -> bool:
    """Tell whether `place` is a URL, as against a path."""
    return "://" in str(place)


def suffix_of(path: str) -> str:
    """Return the suffix of a path or URL, in lower case, dot included."""
    return PurePosixPath(urlsplit(path).path if is_url(path) else path).suffix.lower()


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

    return ask_store(place, lambda: cast(BinaryIO, fsspec.open(str(place), "rb").open()))


def open_source(path: str | Path) -> BinaryIO:
    """Open a source as `open_binary` does. Raises OSError, `Unreachable` for a protocol that nobody speaks here."""
    try:
        return open_binary(path)
    except SourceError as error:
        raise Unreachable(str(error)) from error


def unreadable(path: str | Path, error: OSError) -> SourceError:
    """Return the error that says why a source cannot be read: `Unreachable` of a URL."""
    is_missing = isinstance(error, FileNotFoundError)  # fsspec's own error says no more than the URL
    reason = os.strerror(errno.ENOENT) if is_missing else error.strerror or first_line(error)
    return (Unreachable if is_url(path) else SourceError)(f"{path}: cannot be read ({reason})")


def open_cached_copy(url: str) -> BinaryIO:
    """Open a copy of a URL on this machine, fetched whole once in this process. Raises as `open_binary` does."""
    import fsspec

    return ask_store(url, lambda: cast(BinaryIO, fsspec.open(f"filecache::{url}", "rb").open()))


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

    return ask_store(place, read)


def stat_file(place: str | Path) -> FileStat:
    """Return the status of a file or URL. Raises as `open_binary` does, and OSError for what is no file."""
    if (member := split_member(place)) is not None:
        return stat_file(member[1])
    if is_url(place):
        filesystem, path = resolve_filesystem(place)
        return stat_from_info(ask_store(place, lambda: filesystem.info(path)))
    found = os.stat(place)  # noqa: PTH116 - of very many
    if not stat.S_ISREG(found.st_mode):
        raise OSError(None, "is no file, but a pipe, a device or a folder")
    is_young = time.time_ns() - found.st_mtime_ns < _UNTRUSTED_NS
    return FileStat(found.st_size, "" if is_young else str(found.st_mtime_ns))


def stat_from_info(info: Mapping[str, Any]) -> FileStat:
    """Return the status in what a file system of fsspec says of a file."""
    token = next((str(info[name]) for name in _TOKENS if info.get(name)), "")
    return FileStat(int(info.get("size") or 0), token)


def is_missing(place: str | Path) -> bool:
    """Tell whether there is no file at a path or URL: its store is asked, whatever it was known to hold before.

    Only the answer that there is nothing counts, or that there is a folder.

    Raises:
        OSError: the store does not answer, or does not say.
        SourceError: nobody here speaks the URL's protocol.
    """
    if (member := split_member(place)) is not None:
        return is_missing(member[1])
    try:
        if not is_url(place):
            return stat.S_ISDIR(os.lstat(place).st_mode)
        filesystem, path = resolve_filesystem(place)
        filesystem.invalidate_cache(path)
        return bool(ask_store(place, lambda: filesystem.info(path)).get("type") == "directory")
    except (FileNotFoundError, NotADirectoryError):
        return True


def list_folder(place: str | Path) -> list[FolderEntry]:
    """Return the entries of a folder or URL, sorted by name; none of them is the folder itself.

    Raises:
        OSError: it cannot be listed, or not to its end.
        SourceError: nobody here speaks the URL's protocol.
    """
    if not is_url(place):
        with os.scandir(place) as entries:
            return sorted(map(_local_entry, entries), key=_name)
    filesystem, path = resolve_filesystem(place)
    prefix, found = path.rstrip("/") + "/", list[FolderEntry]()
    for info in ask_store(place, lambda: filesystem.ls(path, detail=True)):
        inside = str(info["name"]).rstrip("/")
        if inside != path.rstrip("/"):  # some stores list a mark of the folder itself
            name = inside.removeprefix(prefix) if inside.startswith(prefix) else inside.rpartition("/")[2]
            found.append(
                FolderEntry(
                    name, join(place, name), info["type"] == "directory", bool(info.get("islink")), stat_from_info(info)
                )
            )
    return sorted(found, key=_name)


def clear_listing_cache(url: str) -> None:
    """Drop cached listings, so that the next one of `url` asks its store."""
    resolve_filesystem(url)[0].invalidate_cache()


def join(folder: str | Path, name: str) -> str:
    """Return the path or URL of `name` in a folder: of a chain of URLs the first that has a path is the folder's."""
    links = str(folder).split("::")
    place = next((number for number, link in enumerate(links) if "://" in link), 0)
    is_root = links[place].endswith("://")
    links[place] = f"{links[place] if is_root else links[place].rstrip('/') + '/'}{name}"
    return "::".join(links)


def resolve_filesystem(place: str | Path) -> tuple[Any, str]:
    """Return fsspec's file system for a URL, and the path in it. Raises as `open_binary` does."""
    import fsspec

    return ask_store(place, lambda: cast(tuple[Any, str], fsspec.core.url_to_fs(str(place))))


def normalize_path(place: str | Path) -> str:
    """Return a path absolute and without "..", symbolic links as they are; a URL without a "/" at its end."""
    return str(place).rstrip("/") if is_url(place) else os.path.normpath(Path(place).absolute())


_name = operator.attrgetter("name")


def _local_entry(entry: os.DirEntry[str]) -> FolderEntry:
    try:
        is_folder = entry.is_dir()
    except OSError:  # a link in a circle
        is_folder = False
    return FolderEntry(entry.name, entry.path, is_folder, entry.is_symlink())

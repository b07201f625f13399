"""Files by path or URL: open, read, list and compare them. URLs are those that fsspec opens (s3, gs, http ...)."""

from __future__ import annotations

import errno
import io
import os
import stat
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, cast
from urllib.parse import urlsplit

from clara_search.errors import FormatError, SourceError
from clara_search.files.archives.tar import NotTar, TarEntry, read_tar
from clara_search.files.limits import AUDIO_BYTES, HTTP_BYTES, OBJECT_BYTES
from clara_search.files.network.options import storage_options
from clara_search.files.network.stores import ask_store, error_reason
from clara_search.files.regular import open_regular, read_regular

_UNTRUSTED_NS = 2_000_000_000
"""Age in nanoseconds below which a file may be written again within one tick of its file system's clock."""

_READ_AT_ONCE = 1 << 20

_CLOCKS_DIFFER_NS = 86_400_000_000_000
"""By more than a day clocks do not differ: such a file was written when one was wrong, and not lately."""

_TOKENS = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "mtime", "updated", "last_modified", "created")
"""Names, in listings of fsspec's file systems, of a value that changes with a file's content."""


class FileStat(NamedTuple):
    """Size of a file in bytes, and a `token` that changes when it is written; empty for one that cannot be trusted."""

    size: int
    token: str


class Unreachable(SourceError):
    """A URL that cannot be read now: its content is unknown."""


class NamedBytes(io.BytesIO):
    """The bytes of a file, with the name of the file for errors."""

    def __init__(self, content: bytes, name: str):
        super().__init__(content)
        self.name = name


def is_url(path: str | Path) -> bool:
    """Tell whether `path` is a URL."""
    return "://" in str(path)


def local_path(path: str | Path) -> Path | None:
    """Return the path of a file of this machine, also for a URL of protocol "file"; None for others."""
    if not is_url(path):
        return Path(path)
    protocol, _, rest = str(path).partition("://")
    is_here = protocol in ("file", "local") and "::" not in rest
    return Path(rest if os.name != "nt" else rest.lstrip("/")) if is_here else None


def suffix_of(path: str) -> str:
    """Return the suffix of a path or URL, in lower case, dot included."""
    return PurePosixPath(urlsplit(path).path if is_url(path) else path).suffix.lower()


def is_remote(path: str | Path) -> bool:
    """Tell whether `path` is a URL, or a member of a shard at a URL."""
    member = split_member(path)
    return is_url(path if member is None else member[1])


def split_member(path: str | Path) -> tuple[str, str] | None:
    """Return key and shard of `tar://KEY::SHARD`, the name of a recording in a shard; None for other names."""
    protocol, _, rest = str(path).partition("://")
    key, chain, shard = rest.partition("::")
    return (key, shard) if protocol == "tar" and key and chain and shard else None


def open_binary(path: str | Path) -> BinaryIO:
    """Open a file or URL for reading bytes. Raises OSError, or SourceError for a protocol without a client."""
    if (local := local_path(path)) is not None:
        return open_regular(local)
    if (member := split_member(path)) is not None:
        return _open_member(*member)
    import fsspec  # a fifth of a second, and only for these

    url = str(path)
    return ask_store(url, lambda: cast(BinaryIO, fsspec.open(url, "rb", **_options(url)).open()))


def open_source(path: str | Path) -> BinaryIO:
    """Open a source as `open_binary` does. Raises OSError, or Unreachable for a protocol without a client."""
    try:
        return open_binary(path)
    except SourceError as error:
        raise Unreachable(str(error)) from error


def unreadable(path: str | Path, error: OSError) -> SourceError:
    """Return the error that says why a source cannot be read: `Unreachable` for a URL."""
    is_missing = isinstance(error, FileNotFoundError)  # fsspec's own error says no more than the URL
    reason = os.strerror(errno.ENOENT) if is_missing else error_reason(error)
    return (Unreachable if is_url(path) else SourceError)(f"{path}: cannot be read ({reason})")


def _options(url: str) -> dict[str, Any]:
    """Return the options of a URL's file system: who did not type it gets no access to what is the user's."""
    return {} if "::" in url else storage_options(url)  # only users type chains


def _open_member(key: str, shard: str) -> BinaryIO:
    """Open the member `key` of a shard, its suffix in lower case, reading the shard from its front up to it.

    Not fsspec's own `tar://`, which lets a shard be a chain of any protocols.
    """
    wanted = partial(_is_member, key)
    try:
        with open_binary(shard) as file:
            for entry in read_tar(file, is_url(shard), wanted):
                if isinstance(entry, TarEntry) and entry.content is not None and wanted(entry.name):
                    return NamedBytes(entry.content, f"tar://{key}::{shard}")
    except NotTar as error:
        raise FormatError(f"{shard}: not a readable tar shard ({error})") from error
    raise FileNotFoundError(errno.ENOENT, f"{shard}: has no member {key!r}")


def _is_member(key: str, name: str, can_wait: bool = False) -> bool:
    return "".join(key_and_suffix(name)) == key


def key_and_suffix(name: str) -> tuple[str, str]:
    """Return key and suffix of a member's name as WebDataset defines them: the suffix starts at the first dot.

    A name without a dot behind its last slash, and that of a hidden file, has an empty key.
    """
    folder, slash, base = name.rpartition("/")
    stem, dot, suffix = base.partition(".")
    return (folder + slash + stem if stem and dot else ""), "." + suffix.lower()


def read_bytes(path: str | Path) -> bytes:
    """Return all bytes of a file or URL. Raises as `open_binary` does."""
    if (local := local_path(path)) is not None:
        return read_regular(local, AUDIO_BYTES, OSError)

    limit = HTTP_BYTES if str(path).lower().startswith("http") else OBJECT_BYTES

    def read() -> bytes:
        with open_binary(path) as file:
            size = getattr(file, "size", None)
            limit.check(size or 0, path)
            if size or isinstance(file, io.BytesIO):
                return file.read()
            content = bytearray()  # of a server that states no length
            while chunk := file.read(_READ_AT_ONCE):
                content += chunk
                if len(content) > limit.value:
                    raise limit.exceeded(path)
            return bytes(content)

    return ask_store(path, read)


def stat_file(path: str | Path, trust_young: bool = False) -> FileStat:
    """Return size and version token of a file or URL.

    Args:
        path: Path or URL; for a member of a shard, the shard is examined.
        trust_young: Whether a file written in the last two seconds gets a token too. A second write within one tick of
            its file system's clock then goes undetected.

    Raises:
        OSError: There is no such file, it is no file, or its store does not answer.
        SourceError: No client is installed that knows the protocol.
    """
    if (member := split_member(path)) is not None:
        return stat_file(member[1], trust_young)
    if is_url(path):
        filesystem, key = resolve_filesystem(path)
        return stat_from_info(ask_store(path, lambda: filesystem.info(key)))
    status = os.stat(path)  # noqa: PTH116 - of very many
    if not stat.S_ISREG(status.st_mode):
        raise OSError(None, "is no file, but a pipe, a device or a folder")
    is_young = not trust_young and _is_young(status)
    return FileStat(status.st_size, "" if is_young else str(status.st_mtime_ns))


def _is_young(status: os.stat_result) -> bool:
    """Tell whether a file was written so lately that another write may leave its time of modification as it is.

    A time in the future, which a program set, says nothing about that: then the time counts when the status changed. If
    that is in the future, too, the clocks differ, or one of them was wrong for long.
    """
    now = time.time_ns()
    changed = status.st_mtime_ns if status.st_mtime_ns <= now else status.st_ctime_ns
    return -_CLOCKS_DIFFER_NS < now - changed < _UNTRUSTED_NS


def stat_from_info(info: Mapping[str, Any]) -> FileStat:
    """Return size and token from the `info` of one of fsspec's file systems."""
    token = next((str(info[name]) for name in _TOKENS if info.get(name)), "")
    return FileStat(int(info.get("size") or 0), token)


def is_missing(path: str | Path) -> bool:
    """Tell whether there is no file at a path or URL, by a request to its store; cached listings do not count.

    A file is missing only if the store answers that nothing is there, or a folder.

    Raises:
        OSError: the store does not answer, or its answer does not decide.
        SourceError: no client is installed that knows the protocol.
    """
    if (member := split_member(path)) is not None:
        return is_missing(member[1])
    try:
        if not is_url(path):
            return stat.S_ISDIR(os.lstat(path).st_mode)
        filesystem, key = resolve_filesystem(path)
        filesystem.invalidate_cache(key)
        return bool(ask_store(path, lambda: filesystem.info(key)).get("type") == "directory")
    except (FileNotFoundError, NotADirectoryError):
        return True


def join(folder: str | Path, name: str) -> str:
    """Return the path or URL of `name` in a folder; of a chain of URLs, the first with a path is extended."""
    links = str(folder).split("::")
    first = next((number for number, link in enumerate(links) if "://" in link), 0)
    is_root = links[first].endswith("://")
    links[first] = f"{links[first] if is_root else links[first].rstrip('/') + '/'}{name}"
    return "::".join(links)


def resolve_filesystem(path: str | Path) -> tuple[Any, str]:
    """Return fsspec's file system for a URL, and the path in it. Raises as `open_binary` does."""
    import fsspec

    url = str(path)
    return ask_store(url, lambda: cast(tuple[Any, str], fsspec.core.url_to_fs(url, **_options(url))))


def normalize_path(path: str | Path) -> str:
    """Return a path absolute and without "..", symbolic links as they are; a URL without a "/" at its end."""
    return str(path).rstrip("/") if is_url(path) else os.path.normpath(Path(path).absolute())

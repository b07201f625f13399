"""The gate that every path or URL read out of data passes before it is opened.

Threat model. Manifests, shards, data sets, databases with their ledgers, heads and cached lists come from other people,
and the names in them are theirs. fsspec opens far more than files: `reference://` renders templates that read this
process's environment, `filecache://` and `simplecache://` write to this machine, `memory://` and `local://` reach into
it, `ssh`, `smb`, `github`, `hf` and `ftp` connect with the user's own credentials, and `::` chains one to another. Who
writes a name into data must not be able to choose among them.

So trust is a type. A `str` or `Path` was typed by the user, or passed the gate: `clara_search.files.paths` opens it.
A name out of data is a `ForeignUri`, which nothing opens; `admit` returns the `str` that may be opened, or raises
`RefusedUri`. It admits

- URLs of `PROTOCOLS`, without `::`;
- `tar://KEY::SHARD`, which `clara_search.files.paths` reads itself, where SHARD is admitted;
- paths: absolute, below the home folder ("~/"), or relative to the file that names them, but no path of this machine
  where that file was fetched.

Which hosts are reached, and with which credentials, `clara_search.files.network.access` decides when a URL is opened;
how much is read, `clara_search.files.limits`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePath

from clara_search.errors import FormatError
from clara_search.files.network import access
from clara_search.files.paths import is_url, join, split_member

PROTOCOLS = frozenset({"http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"})
"""Protocols of URLs out of data that are opened. A URL of another one must be typed, or its protocol be allowed."""

_LONGEST_SHOWN = 120


@dataclass(frozen=True, slots=True)
class ForeignUri:
    """A path or URL that was read out of data. Deliberately no `str`: it cannot be opened before it is admitted.

    Attributes:
        name: the path or URL as the data has it.
        base: the file or URL that a relative `name` is relative to; None without one, as in a table.
    """

    name: str
    base: str | None = None

    def __str__(self) -> str:
        return self.name


class RefusedUri(FormatError):
    """A name out of data that is not opened."""


def admit(uri: ForeignUri) -> str:
    """Return the path or URL that may be opened for `uri`, absolute unless its base is relative.

    Raises:
        RefusedUri: its protocol is not one of `PROTOCOLS`, it chains protocols, it is relative to nothing, or it names
            a path of this machine from a file that was fetched.
    """
    if "\0" in uri.name:
        raise RefusedUri("its path holds a NUL")
    if (member := split_member(uri.name)) is not None:
        key, shard = member
        return f"tar://{key}::{_admit_file(shard, uri.base)}"
    return _admit_file(uri.name, uri.base)


def admit_entry(folder: str, name: str) -> str:
    """Return the path or URL of the entry `name` of a listed folder; every file below a typed URL may be opened.

    Raises:
        RefusedUri: the store's name would lead out of the folder or chain protocols.
    """
    path = join(folder, name)
    if is_url(folder) and ("::" in name or "\0" in name or ".." in name.split("/")):
        raise RefusedUri(f"{_shown(name)} is no name of a file in {folder}")
    return path


def child_of(folder: Path, name: object) -> Path:
    """Return the path of `name`, read from a state file, directly in `folder`.

    Raises:
        RefusedUri: `name` is no plain file name.
    """
    if (
        not isinstance(name, str)
        or name in ("", ".", "..")
        or not {"\0", "\\"}.isdisjoint(name)
        or PurePath(name).name != name
    ):
        raise RefusedUri(f"{_shown(name)} is no name of a file in it")
    return folder / name


def _admit_file(name: str, base: str | None) -> str:
    if is_url(name):
        return _admitted_url(name)
    if base is not None and is_url(base):
        return _below_url(name, base)
    if base is None and not os.path.isabs(name):  # noqa: PTH117 - of very many
        raise RefusedUri(f"{_shown(name)} is relative to nothing: a path has to be absolute here")
    if name.startswith("~/"):
        name = os.path.expanduser(name)  # noqa: PTH111 - of very many
    return os.path.normpath(name if base is None else os.path.join(os.path.dirname(base), name))  # noqa: PTH118, PTH120


def _admitted_url(url: str) -> str:
    protocol = url.partition("://")[0]
    if protocol.lower() not in PROTOCOLS | access.state().protocols:
        raise RefusedUri(
            f"{_shown(url)}: {_shown(protocol)} is opened only where it is typed; data may name paths and URLs of "
            f"{', '.join(sorted(PROTOCOLS))}, and those that you allow (`allow_protocol`)"
        )
    if "::" in url:
        raise RefusedUri(f"{_shown(url)}: URLs chained by '::' are opened only where they are typed")
    return url


def _below_url(name: str, base: str) -> str:
    """Return the URL of `name`, which the file at the URL `base` names relative to itself."""
    if os.path.isabs(name) or PurePath(name).drive:  # noqa: PTH117
        raise RefusedUri(f"{_shown(name)} is a path of one machine, in a file that was fetched: it has to be relative")
    if "::" in name or "::" in base:
        raise RefusedUri(f"{_shown(name)}: is relative to a chain of URLs, or holds '::'")
    return f"{base.partition('?')[0].rpartition('/')[0]}/{name}"


def _shown(name: object) -> str:
    """Return a foreign name for a message: on one line, without control characters, shortened."""
    shown = repr(name)
    return shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}..."

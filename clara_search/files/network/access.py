"""Which hosts and buckets are reached, and with whose credentials.

Threat model. A manifest, a table or a ledger names URLs, and servers redirect. Whoever writes one would like this
machine to fetch what only it can reach (a cloud's metadata service, routers, services on loopback) and to use what only
its user has (keys of AWS, of Google Cloud or of Azure, a `.netrc`, cookies).

So a host or bucket is either **typed** by the user or it is not:

- typed: the URL is a source or a database that was passed to `index` or `Database`, a part of the command line, or was
  passed to `trust`. It is reached wherever it is, and with the user's credentials.
- any other: reached on public addresses only, checked on the connection itself, thus after the name was resolved and
  after each redirect; and anonymously. `allow(private=True)` and `allow(protocols=...)` give way.

What is not typed is guarded: who forgets to call `trust` loses access, not safety. This holds for the whole process,
all its threads included; `state` and `restore` bring it to other processes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

from clara_search.errors import ConfigError

SAME_STORE = {"s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az", "adl": "az"}
PORTS = {"http": 80, "https": 443}

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>,\]\[)(]+")

_CHAINING = frozenset(
    {"reference", "filecache", "simplecache", "blockcache", "cached", "dir", "zip", "tar", "libarchive"}
)
"""Protocols whose URLs hold others, or a program: they are typed or not opened."""


class RefusedAddress(OSError):
    """A connection to an address that data may not name."""


class AccessState(NamedTuple):
    """What is allowed.

    Attributes:
        typed: Hosts (with their port) and buckets that the user typed, as `_origin` names them.
        private: Whether private addresses are reached for others too.
        protocols: Further protocols that data may name.
    """

    typed: frozenset[str] = frozenset()
    private: bool = False
    protocols: frozenset[str] = frozenset()


GUARDED = AccessState()
"""Nothing typed, nothing allowed."""

_state = GUARDED


def state() -> AccessState:
    """Return what is allowed now, for `restore` in another process."""
    return _state


def restore(state: AccessState) -> None:
    """Allow what `state` allows, and nothing else."""
    global _state
    _state = state


def trust(*urls: object) -> None:
    """Note that the user typed the URLs in `urls`: their hosts and buckets are reached with the user's credentials.

    Args:
        *urls: URLs, chains of them, and texts with URLs in them; whatever is no text or holds none is ignored.
    """
    global _state
    texts = (url for url in map(str, urls) if "://" in url)
    origins = {_origin(url) for text in texts for part in text.split("::") for url in _URL.findall(part)}
    if not origins <= _state.typed:
        _state = _state._replace(typed=_state.typed | origins)


@contextmanager
def allow(private: bool = False, protocols: Collection[str] = ()) -> Iterator[None]:
    """Allow more for names out of data, in the whole process and until the context ends.

    Args:
        private: Whether they may name hosts on loopback, link-local and private addresses.
        protocols: Further protocols that they may name, such as "sftp": opened with the user's own credentials.

    Raises:
        ConfigError: A protocol cannot be allowed, since its URLs hold other URLs.
    """
    added = {protocol.removesuffix("://").lower() for protocol in protocols}
    if chaining := added & _CHAINING:
        raise ConfigError(f"data may not name URLs of {min(chaining)}, which hold others: type them as a source")
    before = _state
    restore(before._replace(private=before.private or private, protocols=before.protocols | added))
    try:
        yield
    finally:  # what was typed meanwhile stays typed
        restore(_state._replace(private=before.private, protocols=before.protocols))


def is_typed(url: str) -> bool:
    """Tell whether the user typed a URL of the host or bucket of `url`."""
    return _origin(url) in _state.typed


def is_typed_host(host: str, port: int) -> bool:
    """Tell whether the user typed a URL of `host`, a name or an address, and `port`."""
    return f"{host.lower().partition('%')[0]}:{port}" in _state.typed


def _origin(url: str) -> str:
    """Return the host and port, or protocol and bucket, of a URL."""
    protocol, _, rest = url.partition("://")
    protocol = SAME_STORE.get(protocol.lower(), protocol.lower())
    if protocol not in PORTS:
        bucket = re.split("[/?#]", rest, maxsplit=1)[0]
        return f"{protocol}://{bucket if protocol == 'az' else bucket.rpartition('@')[2]}"
    try:
        parts = urlsplit(f"{protocol}://{rest}")
        return f"{parts.hostname}:{parts.port or PORTS[protocol]}"
    except ValueError:  # no port, or no address
        return url

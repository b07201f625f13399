"""Copies of URLs on this machine, for files of which parts are read again and again."""

from __future__ import annotations

import hashlib
import tempfile
import threading
from pathlib import Path
from typing import BinaryIO

from clara_search.files.limits import SHARD_BYTES
from clara_search.files.network.stores import ask_store
from clara_search.files.paths import open_binary

_COPIED_AT_ONCE = 8 << 20


def open_cached_copy(url: str) -> BinaryIO:
    """Open a copy of a URL on this machine, fetched whole once in this process. Raises as `open_binary` does."""
    return _COPIES.fetch(url).open("rb")


class _Copies:
    """Copies of URLs in a folder that is gone when the process ends."""

    def __init__(self) -> None:
        self._paths: dict[str, Path] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def fetch(self, url: str) -> Path:
        with self._lock:
            self._folder = self._folder or tempfile.TemporaryDirectory(prefix="clara-search-")
            lock = self._locks.setdefault(url, threading.Lock())
        with lock:
            if url not in self._paths:
                path = Path(self._folder.name) / hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()
                ask_store(url, lambda: self._copy(url, path))
                self._paths[url] = path
            return self._paths[url]

    @staticmethod
    def _copy(url: str, path: Path) -> None:
        size = 0
        with open_binary(url) as source, path.open("wb") as copy:
            while chunk := source.read(_COPIED_AT_ONCE):
                size += len(chunk)
                SHARD_BYTES.check(size, url)
                copy.write(chunk)


_COPIES = _Copies()

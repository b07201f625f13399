"""Where a database lies: its LanceDB connection, and the locks of the processes of this machine."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from clara_search.errors import DatabaseError
from clara_search.files import confined
from clara_search.files.paths import is_url, normalize_path
from clara_search.store.lance_errors import lance_reason

_ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT")
_LIKE_A_URL = re.compile(r"[a-z][a-z0-9+]+:/")
_URL_OF_STORE = re.compile(r"(s3|s3\+ddb|gs|az|abfss?|oss)://[^/]")
"""What LanceDB opens and keeps: memory:// goes with the process, and http:// cannot be written."""


class Connection:
    """A folder of LanceDB tables, on this machine or in an object store.

    `location` names it: an absolute path, or a URL. `path` is where it lies; for a URL, where this machine keeps what
    can be made again: ANN indices, and locks, which hold for the processes of one machine.
    """

    def __init__(self, path: str | Path, create: bool = False):
        """Open the database at `path`. Raises DatabaseError where there is none, unless `create` is true."""
        self.is_remote = is_url(path)
        self.location = normalize_path(path)
        if (self.is_remote or _LIKE_A_URL.match(str(path))) and not _URL_OF_STORE.match(str(path)):
            raise DatabaseError(
                f"{path}: no database can lie there; take a folder, or a URL such as s3://bucket/sounds"
            )
        self.path = _local_cache(self.location) if self.is_remote else Path(self.location)
        if not create and not (self.all_names() if self.is_remote else self.path.is_dir()):
            raise DatabaseError(f"{self.location}: no database here; `clara-search index SOURCE --db {path}` makes one")
        try:
            if self.is_remote:  # ids, and what was searched for, are nobody else's to read
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self.path.parent.chmod(0o700)
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatabaseError(f"{self.path}: cannot be made a database ({error.strerror})") from error

    @cached_property
    def lance(self) -> Any:
        """The LanceDB connection. Every read sees the newest version."""
        import lancedb  # takes seconds

        # A store of one's own, without TLS, is named by an address of http.
        is_plain = self.is_remote and any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS)
        options = {"allow_http": "true"} if is_plain else None
        with self._reached():
            return lancedb.connect(self.location, read_consistency_interval=timedelta(0), storage_options=options)

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold the right to commit to table `name`, among all processes of this machine."""
        with confined.lock(self.path, self.path / f".{name}.lock"):
            yield

    def commit_lock(self, table: str) -> AbstractContextManager[None]:
        """Hold the right to commit rows of `table` together with their entries in its ledger."""
        return self.lock(f"_commit_{table}")

    def table_folder(self, name: str) -> Path | None:
        """Return where LanceDB keeps the table `name`; None for one that is not on this machine.

        Raises DatabaseError where that, or anything in it, is a link: LanceDB would follow it.
        """
        return None if self.is_remote else confined.check_tree(self.path, self.path / f"{name}.lance")

    def has(self, name: str) -> bool:
        """Tell whether there is a table `name`, a ledger included."""
        return name in self.all_names()

    def all_names(self) -> list[str]:
        """Return the names of all tables, internal ones included, sorted."""
        names: list[str] = []
        with self._reached():
            page = self.lance.list_tables()
            names += page.tables
            while page.page_token:
                page = self.lance.list_tables(page_token=page.page_token)
                names += page.tables
        return sorted(names)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Turn what LanceDB raises of a store that it does not reach into a DatabaseError."""
        try:
            yield
        except (ValueError, RuntimeError, OSError) as error:
            raise DatabaseError(f"{self.location}: cannot be reached ({lance_reason(error)[:300]})") from error


def _local_cache(url: str) -> Path:
    """Return the folder of this machine that belongs to the database at `url`."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "clara-search" / hashlib.sha256(url.encode()).hexdigest()[:32]

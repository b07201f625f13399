"""The connection to a database: its LanceDB tables, and the locks between the processes of this machine."""

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
from clara_search.files.network import access
from clara_search.files.paths import is_url, normalize_path
from clara_search.store.lance_errors import is_lance_error, lance_reason
from clara_search.store.versions import check_versions

_ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT")
_LIST_OF_TABLES = "__manifest"
"""A folder like a table's, which nothing here writes, but LanceDB reads its newest version before any table."""

_URL_LIKE = re.compile(r"[a-z][a-z0-9+]+:/")
_STORE_URL = re.compile(r"(s3|s3\+ddb|gs|az|abfss?|oss)://[^/]")
"""URLs that can hold a database: memory:// ends with the process, http:// cannot be written."""


class Connection:
    """A folder of LanceDB tables, on this machine or in an object store.

    Locks hold between the processes of one machine: several machines may read a database in an object store, one at a
    time should write it. A process that dies releases its locks.

    Args:
        path: Folder or URL, such as s3://bucket/sounds.
        create: Whether to create the database if it does not exist.

    Attributes:
        location: The absolute path, or the URL.
        is_remote: Whether the database is in an object store.
        path: The folder of the database. For a URL the folder on this machine for derived files: ANN indices and locks.

    Raises:
        DatabaseError: There is no database, the path cannot hold one, or the store cannot be reached.
    """

    def __init__(self, path: str | Path, create: bool = False):
        self.is_remote = is_url(path)
        self.location = normalize_path(path)
        if (self.is_remote or _URL_LIKE.match(str(path))) and not _STORE_URL.match(str(path)):
            raise DatabaseError(f"{path}: cannot hold a database; give a folder, or a URL such as s3://bucket/sounds")
        access.trust(self.location)
        self.path = _local_cache(self.location) if self.is_remote else Path(self.location)
        if not create and not (self.all_names() if self.is_remote else self.path.is_dir()):
            raise DatabaseError(f"{self.location}: no database here; `clara-search index SOURCE --db {path}` makes one")
        try:
            if self.is_remote:  # other users may not read its ids
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self.path.parent.chmod(0o700)
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatabaseError(f"{self.path}: cannot be made a database ({error.strerror})") from error

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.location!r})"

    @cached_property
    def lance(self) -> Any:
        """The LanceDB connection. Every read sees the newest version."""
        import lancedb  # takes seconds

        self._checked(_LIST_OF_TABLES)
        # A self-hosted store without TLS has an http:// endpoint.
        is_plain = self.is_remote and any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS)
        options = {"allow_http": "true"} if is_plain else None
        with self._store_errors():
            return lancedb.connect(self.location, read_consistency_interval=timedelta(0), storage_options=options)

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold the write lock of a table, among all processes of this machine. Waits without a limit.

        Args:
            name: Name of the table, or of another lock.

        Raises:
            DatabaseError: The lock file is a link, or cannot be made.
        """
        with confined.lock(self.path, self.path / f".{name}.lock"):
            yield

    def commit_lock(self, table: str) -> AbstractContextManager[None]:
        """Hold the lock under which rows of a table and their ledger entries are committed together.

        Args:
            table: Name of the table.

        Returns:
            A context that holds the lock.
        """
        return self.lock(f"_commit_{table}")

    def table_folder(self, name: str) -> Path | None:
        """Return the folder in which LanceDB keeps a table.

        Args:
            name: Name of the table, which need not exist.

        Returns:
            The folder; None for a database in an object store.

        Raises:
            DatabaseError: The folder is a link or holds one, which LanceDB would follow; or a version of the table
                names files elsewhere.
        """
        return self._checked(f"{name}.lance")

    def _checked(self, folder: str) -> Path | None:
        """Return a folder of the database after its check; None for one in an object store."""
        if self.is_remote:
            check_versions(f"{self.location}/{folder}")
            return None
        checked = confined.check_tree(self.path, self.path / folder)
        check_versions(checked)
        return checked

    def has(self, name: str) -> bool:
        """Return whether a table exists.

        Args:
            name: Name of a table, a ledger included.

        Returns:
            Whether it exists.

        Raises:
            DatabaseError: The store cannot be reached.
        """
        return name in self.all_names()

    def all_names(self) -> list[str]:
        """Return the names of all tables, internal ones included, sorted."""
        names: list[str] = []
        with self._store_errors():
            page = self.lance.list_tables()
            names += page.tables
            while page.page_token:
                page = self.lance.list_tables(page_token=page.page_token)
                names += page.tables
        return sorted(names)

    @contextmanager
    def _store_errors(self) -> Iterator[None]:
        """Raise LanceDB's errors about the store as DatabaseError."""
        try:
            yield
        except BaseException as error:  # a panic is one
            if not is_lance_error(error):
                raise
            raise DatabaseError(f"{self.location}: cannot be reached ({lance_reason(error)[:300]})") from error


def _local_cache(url: str) -> Path:
    """Return the folder on this machine for derived files of the database at `url`."""
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:  # an account without a home, as in some containers
        raise DatabaseError(f"{url}: there is no home folder for files derived from it: set XDG_CACHE_HOME") from error
    return cache / "clara-search" / hashlib.sha256(url.encode()).hexdigest()[:32]

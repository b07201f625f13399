"""LanceDB tables of embeddings: create, open, upsert, read. A table says in its schema which encoder built it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clara_search.errors import DatabaseError
from clara_search.files import confined
from clara_search.files.fsync import sync_folder
from clara_search.files.gate import ForeignUri
from clara_search.files.paths import absolute, is_url
from clara_search.store.keyed_table import KeyedTable, reason_of

if TYPE_CHECKING:
    import pyarrow as pa


from clara_search.store.table import Table, TableInfo, _corpus_schema

DEFAULT_TABLE = "corpus"

_ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT")
_LIKE_A_URL = re.compile(r"[a-z][a-z0-9+]+:/")
_URL_OF_STORE = re.compile(r"(s3|s3\+ddb|gs|az|abfss?|oss)://[^/]")
"""What LanceDB opens and keeps: memory:// goes with the process, and http:// cannot be written."""
_LEDGER_PREFIX = "_ledger_"
_TABLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Database:
    """A folder of LanceDB tables, on this machine or in an object store.

    `place` names it: an absolute path, or a URL. `path` is where it lies; for a URL, where this machine keeps what can
    be made again: ANN indices, and locks, which hold for the processes of one machine.
    """

    def __init__(self, path: str | Path, create: bool = False):
        """Open the database at `path`. Raises DatabaseError where there is none, unless `create` is true."""
        self.is_remote = is_url(path)
        self.place = absolute(path)
        if (self.is_remote or _LIKE_A_URL.match(str(path))) and not _URL_OF_STORE.match(str(path)):
            raise DatabaseError(
                f"{path}: no database can lie there; take a folder, or a URL such as s3://bucket/sounds"
            )
        self.path = _kept_for(self.place) if self.is_remote else Path(self.place)
        if not create and not (self._all_names() if self.is_remote else self.path.is_dir()):
            raise DatabaseError(f"{self.place}: no database here; `clara-search index SOURCE --db {path}` makes one")
        try:
            if self.is_remote:  # ids, and what was searched for, are nobody else's to read
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self.path.parent.chmod(0o700)
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatabaseError(f"{self.path}: cannot be made a database ({error.strerror})") from error

    def table_names(self) -> list[str]:
        """Return the names of the corpus tables, sorted."""
        return [name for name in self._all_names() if _TABLE_NAME.fullmatch(name)]

    def table(self, name: str = DEFAULT_TABLE) -> Table:
        """Open the corpus table `name`. Raises DatabaseError, listing those there are, where it is missing."""
        names = self.table_names()
        if name not in names:
            there = f"it has {', '.join(names)}" if names else "it has no tables"
            raise DatabaseError(f"{self.place}: no table '{name}'; {there}")
        return Table(self, name)

    def create_table(self, name: str, info: TableInfo, extra_fields: Sequence[pa.Field] = ()) -> Table:
        """Create the corpus table `name`, empty. Raises DatabaseError where the name is taken or cannot be one."""
        if not _TABLE_NAME.fullmatch(name):
            raise DatabaseError(f"'{name}' cannot name a table: use letters, digits, '_', '-' and '.', a letter first")
        self.create_keyed_table(name, _corpus_schema(info, extra_fields), key="id")
        return Table(self, name)

    def create_keyed_table(self, name: str, schema: pa.Schema, key: str) -> KeyedTable:
        """Create a table of any schema whose rows the non-null column `key` tells apart."""
        self.table_folder(name)
        with self.lock(name):
            if self.has(name):
                raise DatabaseError(f"{self.place}: table '{name}' is there already")
            # Row ids then outlive updates and compaction, so that an index in memory can refer to rows by them.
            options = {"new_table_enable_stable_row_ids": "true"}
            created = self.connection.create_table(name, schema=schema, storage_options=options)
            created.set_unenforced_primary_key(key)
            if not self.is_remote:
                sync_folder(self.path)
        return KeyedTable(self, name, key)

    def drop_table(self, name: str) -> None:
        """Delete the table `name` with all its versions, where there is one."""
        self.table_folder(name)
        with self.lock(name):
            self.connection.drop_table(name, ignore_missing=True)

    def ledger(self, table: str) -> KeyedTable | None:
        """Return the record of what was indexed into `table`, one row per item, or None where there is none yet."""
        name = ledger_name(table)
        return KeyedTable(self, name, key="key") if self.has(name) else None

    def failures(self, table: str = DEFAULT_TABLE) -> list[dict[str, Any]]:
        """Return what could not be indexed into `table`: dicts of uri, reason and the time `at`, sorted by uri."""
        ledger = self.ledger(table)
        if ledger is None:
            return []
        failed = ledger.scan(["uri", "reason", "at"], where="status = 'failed'")
        return failed.sort_by("uri").to_pylist()  # type: ignore[no-any-return]

    def sources_of_failures(self, table: str = DEFAULT_TABLE) -> list[ForeignUri]:
        """Return the sources, sorted, of what could not be indexed into `table`: those that can still be looked at."""
        ledger = self.ledger(table)
        if ledger is None:
            return []
        sources = set(ledger.scan(["source"], where="status = 'failed'")["source"].to_pylist())
        there = sorted(source for source in sources if is_url(source) or (source and Path(source).exists()))
        return [ForeignUri(source) for source in there]

    @cached_property
    def connection(self) -> Any:
        """The LanceDB connection. Every read sees the newest version."""
        import lancedb  # takes seconds

        # A store of one's own, without TLS, is named by an address of http.
        is_plain = self.is_remote and any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS)
        options = {"allow_http": "true"} if is_plain else None
        with self._reached():
            return lancedb.connect(self.place, read_consistency_interval=timedelta(0), storage_options=options)

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
        return name in self._all_names()

    def _all_names(self) -> list[str]:
        names: list[str] = []
        with self._reached():
            page = self.connection.list_tables()
            names += page.tables
            while page.page_token:
                page = self.connection.list_tables(page_token=page.page_token)
                names += page.tables
        return sorted(names)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Turn what LanceDB raises of a store that it does not reach into a DatabaseError."""
        try:
            yield
        except (ValueError, RuntimeError, OSError) as error:
            raise DatabaseError(f"{self.place}: cannot be reached ({reason_of(error)[:300]})") from error


def _kept_for(url: str) -> Path:
    """Return the folder of this machine that belongs to the database at `url`."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "clara-search" / hashlib.sha256(url.encode()).hexdigest()[:32]


def ledger_name(table: str) -> str:
    """Return the name of the LanceDB table that records what was indexed into `table`."""
    return _LEDGER_PREFIX + table

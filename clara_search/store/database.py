"""LanceDB tables of embeddings: create, open, upsert, read. A table says in its schema which encoder built it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from clara_search.errors import DatabaseError
from clara_search.files.fsync import sync_folder
from clara_search.store.connection import Connection
from clara_search.store.keyed_table import KeyedTable

if TYPE_CHECKING:
    import pyarrow as pa


from clara_search.store.table import Table, TableInfo, corpus_schema

DEFAULT_TABLE = "corpus"

_TABLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Database(Connection):
    """A folder of LanceDB tables, on this machine or in an object store."""

    def table_names(self) -> list[str]:
        """Return the names of the corpus tables, sorted."""
        return [name for name in self.all_names() if _TABLE_NAME.fullmatch(name)]

    def table(self, name: str = DEFAULT_TABLE) -> Table:
        """Open the corpus table `name`. Raises DatabaseError, listing those there are, where it is missing."""
        names = self.table_names()
        if name not in names:
            there = f"it has {', '.join(names)}" if names else "it has no tables"
            raise DatabaseError(f"{self.location}: no table '{name}'; {there}")
        return Table(self, name)

    def create_table(self, name: str, info: TableInfo, extra_fields: Sequence[pa.Field] = ()) -> Table:
        """Create the corpus table `name`, empty. Raises DatabaseError where the name is taken or cannot be one."""
        if not _TABLE_NAME.fullmatch(name):
            raise DatabaseError(f"'{name}' cannot name a table: use letters, digits, '_', '-' and '.', a letter first")
        self.create_keyed_table(name, corpus_schema(info, extra_fields), key="id")
        return Table(self, name)

    def create_keyed_table(self, name: str, schema: pa.Schema, key: str) -> KeyedTable:
        """Create a table of any schema whose rows the non-null column `key` tells apart."""
        self.table_folder(name)
        with self.lock(name):
            if self.has(name):
                raise DatabaseError(f"{self.location}: table '{name}' is there already")
            # Row ids then outlive updates and compaction, so that an index in memory can refer to rows by them.
            options = {"new_table_enable_stable_row_ids": "true"}
            created = self.lance.create_table(name, schema=schema, storage_options=options)
            created.set_unenforced_primary_key(key)
            if not self.is_remote:
                sync_folder(self.path)
        return KeyedTable(self, name, key)

    def drop_table(self, name: str) -> None:
        """Delete the table `name` with all its versions, where there is one."""
        self.table_folder(name)
        with self.lock(name):
            self.lance.drop_table(name, ignore_missing=True)

"""A database: corpus tables of embeddings, created, opened and dropped by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from clara_search.errors import DatabaseError
from clara_search.store.connection import Connection
from clara_search.store.fsync import sync_folder
from clara_search.store.keyed_table import KeyedTable
from clara_search.store.schema import TableInfo, corpus_schema
from clara_search.store.table import Table

if TYPE_CHECKING:
    import pyarrow as pa

DEFAULT_TABLE = "corpus"

_TABLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Database(Connection):
    """A folder of corpus tables, on this machine or in an object store.

    Args:
        path: Folder or URL, such as s3://bucket/sounds.
        create: Whether to create the database if it does not exist.

    Raises:
        DatabaseError: There is no database, the path cannot hold one, or the store cannot be reached.
    """

    def table_names(self) -> list[str]:
        """Return the names of the corpus tables, sorted."""
        return [name for name in self.all_names() if _TABLE_NAME.fullmatch(name)]

    def table(self, name: str = DEFAULT_TABLE) -> Table:
        """Open a corpus table.

        Args:
            name: Name of the table.

        Returns:
            The table.

        Raises:
            DatabaseError: There is no such table, or it cannot be read.
        """
        names = self.table_names()
        if name not in names:
            listed = f"it has {', '.join(names)}" if names else "it has no tables"
            raise DatabaseError(f"{self.location}: no table '{name}'; {listed}")
        return Table(self, name)

    def create_table(self, name: str, info: TableInfo, extra_fields: Sequence[pa.Field] = ()) -> Table:
        """Create an empty corpus table.

        Args:
            name: Name of the table: letters, digits, "_", "-" and ".", a letter or digit first.
            info: The encoder and the windows of its rows.
            extra_fields: Further columns.

        Returns:
            The table.

        Raises:
            DatabaseError: The name is taken or not allowed, or the table cannot be written.
        """
        if not _TABLE_NAME.fullmatch(name):
            raise DatabaseError(
                f"'{name}' cannot name a table: use letters, digits, '_', '-' and '.', a letter or digit first"
            )
        self.create_keyed_table(name, corpus_schema(info, extra_fields), key="id")
        return Table(self, name)

    def create_keyed_table(self, name: str, schema: pa.Schema, key: str) -> KeyedTable:
        """Create an empty table of any schema.

        Args:
            name: Name of the table.
            schema: The Arrow schema.
            key: The non-null column whose values identify rows.

        Returns:
            The table.

        Raises:
            DatabaseError: The name is taken, or the table cannot be written.
        """
        self.table_folder(name)
        with self.lock(name):
            if self.has(name):
                raise DatabaseError(f"{self.location}: table '{name}' exists already")
            # Stable row ids survive updates and compaction: an index in memory refers to rows by them.
            options = {"new_table_enable_stable_row_ids": "true"}
            created = self.lance.create_table(name, schema=schema, storage_options=options)
            created.set_unenforced_primary_key(key)
            if not self.is_remote:
                sync_folder(self.path)
        return KeyedTable(self, name, key)

    def drop_table(self, name: str) -> None:
        """Delete a table with all its versions; nothing happens without such a table.

        Args:
            name: Name of the table.

        Raises:
            DatabaseError: The table's folder is a link or holds one.
        """
        self.table_folder(name)
        with self.lock(name):
            self.lance.drop_table(name, ignore_missing=True)

"""LanceDB tables with a key column: upsert, delete, read.

Versions: each commit makes a new version of the table; reads see the newest one, and a reader of an older version is
not disturbed until `compact` deletes it.
Locks: writes take the table's lock, so that processes of this machine commit one after the other; a conflict with a
writer outside the lock is retried.
Durability: a write returns when its commit is on the disk, or acknowledged by a store. After a crash the table is at
its last commit: an upsert is one commit, a deletion of more than 1,000 keys several.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from clara_search.errors import DatabaseError
from clara_search.store.compaction import DEFAULT_RETAIN_DAYS, FULL_FRAGMENT_ROWS, NEVER, Layout, Moment, read_layout
from clara_search.store.filters import filtering, sql_string
from clara_search.store.fitting import fit_rows, last_of_each, missing_fields
from clara_search.store.fsync import FolderSync
from clara_search.store.lance_errors import is_lance_error, lance_reason, translate_read_errors
from clara_search.store.versions import check_newest

if TYPE_CHECKING:
    import pyarrow as pa

    from clara_search.store.connection import Connection

_KEYS_PER_FILTER = 1000
_ROWS_PER_BATCH = 8192
_COMMIT_ATTEMPTS = 6
_FIRST_RETRY_S = 0.05


class KeyedTable:
    """A LanceDB table whose rows are identified by one non-null column: writing a row twice keeps one.

    Args:
        connection: The database.
        name: Name of the table.
        key: The column that identifies rows.

    Raises:
        DatabaseError: The table cannot be opened, or its folder holds a link.
    """

    def __init__(self, connection: Connection, name: str, key: str):
        self.connection = connection
        self.name = name
        self.key = key
        folder = connection.table_folder(name)
        remedy = "`clara-search db verify --repair` rolls it back to its last whole version"
        with translate_read_errors(f"{connection.location}: table '{name}' cannot be opened ({{}}): {remedy}"):
            if folder is not None:
                check_newest(folder)
            self._lance = connection.lance.open_table(name)
        # A store has what it acknowledged: nothing to sync.
        self._sync: Callable[[], None] = (
            FolderSync(folder, connection.path / f".{name}.synced") if folder else lambda: None
        )

    @property
    def version(self) -> int:
        """The newest Lance version; it grows with every commit."""
        with translate_read_errors():
            return int(self._lance.version)

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema, with the further columns."""
        with translate_read_errors():
            return self._lance.schema

    def count(self, where: str | None = None) -> int:
        """Count rows.

        Args:
            where: Only rows that pass this SQL filter.

        Returns:
            The number of rows.

        Raises:
            QueryError: The filter cannot be used.
            DatabaseError: The table's files are damaged.
        """
        with filtering(self._lance, where) as prepared:
            return int(self._lance.count_rows(prepared))

    def scan(self, columns: Sequence[str], where: str | None = None) -> pa.Table:
        """Read rows.

        Args:
            columns: The columns to read.
            where: Only rows that pass this SQL filter.

        Returns:
            The rows, in no particular order.

        Raises:
            QueryError: The filter cannot be used.
            DatabaseError: The table's files are damaged.
        """
        return self._scan(columns, where, row_ids=False)

    def batches(self, columns: Sequence[str], where: str | None = None) -> Iterator[pa.RecordBatch]:
        """Read rows as `scan` does, in batches: memory does not grow with the table.

        Args:
            columns: The columns to read.
            where: Only rows that pass this SQL filter.

        Yields:
            Batches of at most 8,192 rows.

        Raises:
            QueryError: The filter cannot be used.
            DatabaseError: The table's files are damaged.
        """
        with filtering(self._lance, where) as prepared:
            yield from self._query(columns, prepared).to_batches(batch_size=_ROWS_PER_BATCH)

    def upsert(self, rows: pa.Table) -> None:
        """Write rows in one commit: rows of an existing key replace the old ones, the others are added.

        Repeating it changes nothing, and other processes may write at the same time.

        Args:
            rows: Of rows with the same key the last one is written. Columns that the table lacks are added to it;
                columns that `rows` lacks become null.

        Raises:
            DatabaseError: A column's type does not fit, or the table cannot be written.
        """
        if rows.num_rows == 0:
            return
        with self.connection.lock(self.name):
            self._add_missing_columns(rows.schema)
            fitted = fit_rows(last_of_each(rows, self.key), self.schema, self.name)
            self._commit(
                lambda: (
                    self._lance.merge_insert(self.key)
                    .when_matched_update_all()
                    .when_not_matched_insert_all()
                    .execute(fitted)
                )
            )

    def delete_keys(self, keys: Sequence[str]) -> int:
        """Delete rows by their keys, 1,000 a commit.

        Args:
            keys: Their keys; keys without a row are ignored.

        Returns:
            The number of deleted rows.

        Raises:
            DatabaseError: The table cannot be written.
        """
        if not keys:
            return 0
        with self.connection.lock(self.name):
            before = self.count()
            for where in self.keys_in(keys):
                self._commit(partial(self._lance.delete, where))
            return before - self.count()

    def delete_where(self, where: str) -> int:
        """Delete rows in one commit.

        Args:
            where: The rows that pass this SQL filter.

        Returns:
            The number of deleted rows.

        Raises:
            QueryError: The filter cannot be used.
            DatabaseError: The table cannot be written.
        """
        with self.connection.lock(self.name), filtering(self._lance, where) as prepared:
            before = self.count()
            self._commit(partial(self._lance.delete, prepared))
            return before - self.count()

    def keys_in(self, keys: Sequence[str], column: str | None = None) -> Iterator[str]:
        """Make SQL filters that together select the rows of these keys, each short enough to be parsed.

        Args:
            keys: The keys.
            column: Another text column to select by.

        Yields:
            A filter for each 1,000 keys.
        """
        for start in range(0, len(keys), _KEYS_PER_FILTER):
            listed = ", ".join(sql_string(key) for key in keys[start : start + _KEYS_PER_FILTER])
            yield f"{column or self.key} IN ({listed})"

    def compact(self, retain_days: float = DEFAULT_RETAIN_DAYS, purge: bool = False, since: float = inf) -> None:
        """Merge the small files of many commits and drop deleted rows from them. Row ids stay the same.

        Args:
            retain_days: Versions older than this are deleted; a reader that still uses one then fails.
            purge: Whether deleted rows must be gone from files of a million rows too, which are then written anew.
            since: When the run began that compacts, in seconds since the epoch; its own versions need not be kept.

        Raises:
            DatabaseError: The table cannot be written.
        """
        with self.connection.lock(self.name):
            layout = self._layout()
            has_deleted, is_full = layout.versions[-1].deleted_rows > 0, layout.largest >= FULL_FRAGMENT_ROWS
            if has_deleted and is_full and purge:
                self._rewrite(None)
            elif has_deleted and not is_full and layout.fragments == 1:
                self._rewrite(1)
            if purge:  # the newest version may be a deletion, which names what was deleted
                self._commit(partial(self._lance.delete, "false"))
            # What was joined has to be on the disk before what it was joined from is deleted.
            for age in (NEVER, layout.age_to_delete(retain_days, time.time(), since)):
                self._commit(partial(self._lance.optimize, cleanup_older_than=age))

    def compact_if_worthwhile(self, moment: Moment, retain_days: float, since: float = inf) -> bool:
        """Compact the table if its state asks for it: fragments, deleted rows, old versions.

        Args:
            moment: Whether a run is about to write, writes, or has written.
            retain_days: As `compact` takes it.
            since: As `compact` takes it.

        Returns:
            Whether it was compacted.

        Raises:
            DatabaseError: The table cannot be read or written.
        """
        with self.connection.lock(self.name):
            if moment == "during":
                wants = self._layout(versions=False).wants_compaction_while_growing()
            else:
                wants = self._layout().wants_compaction(moment, retain_days, time.time(), since)
        if wants:
            self.compact(retain_days, since=since)
        return wants

    def _layout(self, versions: bool = True) -> Layout:
        with translate_read_errors():
            return read_layout(self._lance, versions)

    def _rewrite(self, limit: int | None) -> None:
        """Write rows over themselves: a fragment with few deleted rows is written anew only where it can be joined."""
        for batch in self._lance.search().limit(limit).to_batches(batch_size=_ROWS_PER_BATCH):
            write = self._lance.merge_insert(self.key).when_matched_update_all()
            self._commit(partial(write.execute, fit_rows(batch, self.schema, self.name)))

    def _scan(self, columns: Sequence[str], where: str | None, row_ids: bool) -> pa.Table:
        with filtering(self._lance, where) as prepared:
            query = self._query(columns, prepared)
            return (query.with_row_id(True) if row_ids else query).to_arrow()

    def _query(self, columns: Sequence[str], prepared: str | None) -> Any:
        query = self._lance.search().select(list(columns)).limit(None)
        return query if prepared is None else query.where(prepared)

    def _add_missing_columns(self, schema: pa.Schema) -> None:
        if missing := missing_fields(schema, self.schema):
            self._commit(lambda: self._lance.add_columns(missing))

    def alter(self, change: Callable[[Any], Any]) -> None:
        """Commit a change of the columns.

        Args:
            change: Called with LanceDB's table.

        Raises:
            DatabaseError: It fails.
        """
        self._commit(lambda: change(self._lance))

    def _commit(self, write: Callable[[], Any]) -> None:
        """Run `write`, again after a conflict with a writer outside the lock; then sync it to the disk."""
        for attempt in range(_COMMIT_ATTEMPTS):
            try:
                write()
                break
            except BaseException as error:  # a panic is one
                if not is_lance_error(error):
                    raise
                if "conflict" not in str(error).lower() or attempt == _COMMIT_ATTEMPTS - 1:
                    raise DatabaseError(f"table '{self.name}' cannot be written ({lance_reason(error)})") from error
                time.sleep(_FIRST_RETRY_S * 2**attempt)
        try:
            self._sync()
        except OSError as error:
            raise DatabaseError(f"table '{self.name}' cannot be synced to the disk ({error.strerror})") from error

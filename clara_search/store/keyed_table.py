"""LanceDB tables whose rows one column tells apart: upsert, delete, read; a commit is on the disk when it returns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from clara_search.errors import DatabaseError
from clara_search.files.fsync import FolderSync
from clara_search.store.lance_errors import lance_reason, translate_read_errors

if TYPE_CHECKING:
    import pyarrow as pa

    from clara_search.store.connection import Connection

_IDS_PER_FILTER = 1000
_ROWS_PER_BATCH = 8192

DEFAULT_KEEP_DAYS = 7.0
"""Versions of a table as old as this are given up when it is compacted."""
_COMMIT_ATTEMPTS = 6
_FIRST_RETRY_S = 0.05


class KeyedTable:
    """A LanceDB table whose rows are told apart by one non-null column, so that writing a row twice keeps one."""

    def __init__(self, connection: Connection, name: str, key: str):
        self.connection = connection
        self.name = name
        self.key = key
        folder = connection.table_folder(name)
        try:
            self._lance = connection.lance.open_table(name)
        except (ValueError, RuntimeError, OSError) as error:
            raise DatabaseError(
                f"{connection.location}: table '{name}' cannot be opened ({lance_reason(error)}): `clara-search db "
                "verify --repair` rolls it back to its last whole version"
            ) from error
        # What a store has acknowledged, it has.
        self._sync = FolderSync(folder, connection.path / f".{name}.synced") if folder else _nothing

    @property
    def version(self) -> int:
        """The newest Lance version: it rises with every commit."""
        return int(self._lance.version)

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema, further columns included."""
        return self._lance.schema

    def count(self, where: str | None = None) -> int:
        """Return the number of rows, of those that pass the SQL filter `where`. Raises QueryError if it is bad."""
        with translate_read_errors(where):
            return int(self._lance.count_rows(where))

    def scan(self, columns: Sequence[str], where: str | None = None) -> pa.Table:
        """Return `columns` of the rows that pass the SQL filter `where`. Raises QueryError if it is bad."""
        return self._scan(columns, where, row_ids=False)

    def batches(self, columns: Sequence[str], where: str | None = None) -> Iterator[pa.RecordBatch]:
        """Yield what `scan` returns, in batches: in memory that does not grow with the table."""
        query = self._lance.search().select(list(columns)).limit(None)
        with translate_read_errors(where):
            yield from (query if where is None else query.where(where)).to_batches(batch_size=_ROWS_PER_BATCH)

    def upsert(self, rows: pa.Table) -> None:
        """Write `rows`: those whose key is there replace the old ones, the others are added.

        Of rows with the same key the last one counts. Columns that the table lacks are added to it, those that `rows`
        lacks are null. Safe to repeat, and safe beside other processes. Raises DatabaseError where a column's type
        does not fit.
        """
        if rows.num_rows == 0:
            return
        with self.connection.lock(self.name):
            self._add_missing_columns(rows.schema)
            fitted = self._fit(_last_of_each(rows, self.key))
            self._commit(
                lambda: (
                    self._lance.merge_insert(self.key)
                    .when_matched_update_all()
                    .when_not_matched_insert_all()
                    .execute(fitted)
                )
            )

    def delete_keys(self, keys: Sequence[str]) -> int:
        """Delete the rows with these keys and return how many there were."""
        if not keys:
            return 0
        with self.connection.lock(self.name):
            before = self.count()
            for where in self.keys_in(keys):
                self._commit(partial(self._lance.delete, where))
            return before - self.count()

    def keys_in(self, keys: Sequence[str], column: str | None = None) -> Iterator[str]:
        """Yield SQL filters, each of a length that can be parsed, that together choose the rows with these keys.

        `column` is another one of texts to choose by.
        """
        for start in range(0, len(keys), _IDS_PER_FILTER):
            listed = ", ".join(sql_string(key) for key in keys[start : start + _IDS_PER_FILTER])
            yield f"{column or self.key} IN ({listed})"

    def compact(self, keep_days: float = DEFAULT_KEEP_DAYS) -> None:
        """Join the small files that many commits leave, so that reading stays fast. Row ids stay the same.

        Versions of the table that are older than `keep_days` are given up.
        """
        with self.connection.lock(self.name):
            self._commit(partial(self._lance.optimize, cleanup_older_than=timedelta(days=keep_days)))

    def _scan(self, columns: Sequence[str], where: str | None, row_ids: bool) -> pa.Table:
        query = self._lance.search().select(list(columns)).limit(None)
        if where is not None:
            query = query.where(where)
        if row_ids:
            query = query.with_row_id(True)
        with translate_read_errors(where):
            return query.to_arrow()

    def _add_missing_columns(self, schema: pa.Schema) -> None:
        import pyarrow as pa

        there = set(self.schema.names)
        # A column of nulls alone says nothing of its type: it waits for its first value.
        missing = [pa.field(f.name, f.type) for f in schema if f.name not in there and not pa.types.is_null(f.type)]
        if missing:
            self._commit(lambda: self._lance.add_columns(missing))

    def _fit(self, rows: pa.Table) -> pa.Table:
        import pyarrow as pa

        columns = []
        for field in self.schema:
            if field.name not in rows.schema.names:
                columns.append(pa.nulls(rows.num_rows, field.type))
                continue
            try:
                columns.append(rows[field.name].cast(field.type))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                message = f"table '{self.name}': column '{field.name}' takes {field.type} ({error})"
                raise DatabaseError(message) from error
        return pa.Table.from_arrays(columns, schema=self.schema)

    def _commit(self, write: Callable[[], Any]) -> None:
        """Run `write`, again where a writer outside our lock committed in between; then bring it to the disk."""
        for attempt in range(_COMMIT_ATTEMPTS):
            try:
                write()
                break
            except (RuntimeError, OSError, ValueError) as error:
                if "conflict" not in str(error).lower() or attempt == _COMMIT_ATTEMPTS - 1:
                    raise DatabaseError(f"table '{self.name}' cannot be written ({lance_reason(error)})") from error
                time.sleep(_FIRST_RETRY_S * 2**attempt)
        try:
            self._sync()
        except OSError as error:
            raise DatabaseError(f"table '{self.name}' cannot be brought to the disk ({error.strerror})") from error


def _nothing() -> None:
    pass


def sql_string(value: str) -> str:
    """Return `value` as a string literal for a filter."""
    return "'" + value.replace("'", "''") + "'"


def _last_of_each(rows: pa.Table, key: str) -> pa.Table:
    last = {value: index for index, value in enumerate(rows[key].to_pylist())}
    return rows if len(last) == rows.num_rows else rows.take(sorted(last.values()))

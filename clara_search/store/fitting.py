"""Rows that are made to fit a table before they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clara_search.errors import DatabaseError

if TYPE_CHECKING:
    import pyarrow as pa


def fit_rows(rows: pa.Table | pa.RecordBatch, schema: pa.Schema, table: str) -> pa.Table:
    """Return rows with the columns of a table, in their order and types; columns that they lack are null.

    Raises:
        DatabaseError: A column does not fit; the message names `table`.
    """
    import pyarrow as pa

    columns = []
    for field in schema:
        if field.name not in rows.schema.names:
            columns.append(pa.nulls(rows.num_rows, field.type))
            continue
        try:
            columns.append(rows[field.name].cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise DatabaseError(f"table '{table}': column '{field.name}' takes {field.type} ({error})") from error
    return pa.Table.from_arrays(columns, schema=schema)


def missing_fields(schema: pa.Schema, present: pa.Schema) -> list[pa.Field]:
    """Return the fields of `schema` that `present` lacks; not those of nulls alone, whose type shows later."""
    import pyarrow as pa

    names = set(present.names)
    return [pa.field(f.name, f.type) for f in schema if f.name not in names and not pa.types.is_null(f.type)]


def last_of_each(rows: pa.Table, key: str) -> pa.Table:
    """Return the rows without those whose key a later row has."""
    last = {value: index for index, value in enumerate(rows[key].to_pylist())}
    return rows if len(last) == rows.num_rows else rows.take(sorted(last.values()))

"""Columns of a table that get another type: the values are converted, in commits that can be interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clara_search.errors import DatabaseError
from clara_search.store.keyed_table import KeyedTable

if TYPE_CHECKING:
    import pyarrow as pa

_NEW, _OLD = "clara_cast_to_", "clara_cast_from_"
"""Prefixes of columns that exist while a column is converted."""


def cast_column(table: KeyedTable, name: str, kind: pa.DataType) -> None:
    """Convert a column to another type. After an interruption it has its old type or its new one.

    Args:
        table: The table.
        name: The column.
        kind: Its new type: a number, a timestamp or a text.

    Raises:
        DatabaseError: Values of the old type cannot be converted, or the table cannot be written.
    """
    expression = f"cast(`{name}` as {_sql_type(table, name, kind)})"
    with table.connection.lock(table.name):
        leftovers = [column for column in table.schema.names if column.startswith((_NEW, _OLD))]
        if leftovers:
            table.alter(lambda lance: lance.drop_columns(leftovers))
        table.alter(lambda lance: lance.add_columns({_NEW + name: expression}))
        # Both names change in one commit.
        renames = [{"path": name, "rename": _OLD + name}, {"path": _NEW + name, "rename": name}]
        table.alter(lambda lance: lance.alter_columns(*renames))
        table.alter(lambda lance: lance.drop_columns([_OLD + name]))


def _sql_type(table: KeyedTable, name: str, kind: pa.DataType) -> str:
    from pyarrow import types

    present = table.schema.field(name).type
    if types.is_nested(present) or types.is_duration(present) or types.is_binary(present):
        raise DatabaseError(
            f"table '{table.name}': the column '{name}' holds {present}, and the source has other values: rename its "
            "column with `columns`"
        )
    if types.is_decimal(kind):
        return f"decimal({kind.precision}, {kind.scale})"
    for applies, sql in ((types.is_floating, "double"), (types.is_timestamp, "timestamp"), (types.is_string, "string")):
        if applies(kind):
            return sql
    raise DatabaseError(f"table '{table.name}': the column '{name}' cannot be converted from {present} to {kind}")

"""Columns of a table that become wider when a source needs it: int, float, text."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import pyarrow as pa

from clara_search.store.casting import cast_column
from clara_search.store.schema import CORE_COLUMNS
from clara_search.store.table import Table
from indexer.sources.columns import EXACT, ColumnType, arrow_type, stored_type, wider_type

_log = logging.getLogger(__name__)


def widen_columns(table: Table, columns: Mapping[str, ColumnType]) -> dict[str, ColumnType]:
    """Make further columns of a table wide enough for values of these types; return the types that they have then.

    Args:
        table: the table, under its commit lock.
        columns: types of the values that a source has, by column; columns that the table lacks are not added.

    Raises:
        DatabaseError: The table cannot be written.
    """
    types = dict[str, ColumnType]()
    for name, kind in columns.items():
        types[name] = stored_type(kind)
        if name not in table.schema.names or name in CORE_COLUMNS:
            continue
        present = table.schema.field(name).type
        types[name] = _wider(table, name, present, kind)
        if types[name] != present:
            message = "column '%s' of table '%s' becomes %s: %s is too narrow for the values of this source"
            _log.warning(message, name, table.name, types[name], present)
            cast_column(table, name, types[name])
    return types


def _wider(table: Table, name: str, present: pa.DataType, kind: ColumnType) -> ColumnType:
    wider = stored_type(wider_type(arrow_type(present), kind) or present)
    if wider == arrow_type(present):
        return present
    if (present, wider) == (pa.int64(), pa.float64()) and table.count(f"abs(`{name}`) > {EXACT}"):
        return pa.string()  # a float would round what is there
    return wider

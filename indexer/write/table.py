"""The corpus table of a run: opened, checked against encoder, windows and columns, or created."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from clara_search.audio.windows import DEFAULT_HOP_S, DEFAULT_WINDOW_S
from clara_search.errors import ConfigError, DatabaseError
from clara_search.models.base import Encoder
from clara_search.models.recorded import RecordedModel
from clara_search.models.registry import DEFAULT_MODEL, load_encoder
from clara_search.store.database import Database
from clara_search.store.names import relative_folder
from clara_search.store.schema import TableInfo
from clara_search.store.table import Table
from indexer.ledger.failures import ledger_name
from indexer.sources.columns import ColumnType, stored_type
from indexer.write.widening import widen_columns


def table_model(database: Database, table: str) -> str | RecordedModel:
    """Return the model that `table` records, or the name of the default model if there is no such table."""
    return database.table(table).info.model if table in database.table_names() else DEFAULT_MODEL


def resolve_encoder(
    encoder: Encoder | str | Path | None, database: Database, table: str, device: str | None = None
) -> Encoder:
    """Return `encoder`, loaded on `device` if it is a model; None: the model of `table`."""
    if isinstance(encoder, Encoder):
        return encoder
    return load_encoder(table_model(database, table) if encoder is None else encoder, device)


def open_or_create_table(
    database: Database,
    name: str,
    encoder: Encoder,
    window_s: float | None,
    hop_s: float | None,
    columns: Mapping[str, ColumnType],
    relative_to: str | Path | None = None,
) -> tuple[Table, dict[str, ColumnType]]:
    """Return the table `name` for rows of `encoder`, created if it is missing, and the types of its `columns` now.

    A column of the table that is too narrow for the values of a source becomes wider, with a line: int, float, text.

    Args:
        database: the database.
        name: name of the table.
        encoder: encoder of the rows.
        window_s: length of a window in seconds; None: the table's, or 10 s.
        hop_s: from one window to the next in seconds; None: the table's, or 5 s.
        columns: types of the further columns.
        relative_to: folder that the names of recordings are relative to; None: the table's, or none.

    Raises:
        EncoderMismatch: another encoder built the table.
        DatabaseError: the table has other windows.
        ConfigError: window or hop is out of bounds.
    """
    folder = None if relative_to is None else relative_folder(database.location, database.is_remote, relative_to)
    with database.commit_lock(name):
        if name in database.table_names():
            table = database.table(name)
            table.check_encoder(encoder)
            _check_windows(table, window_s, hop_s)
            if folder not in (None, table.info.relative_to):
                known = f"relative to {table.info.relative_to!r}" if table.info.relative_to else "as they are"
                raise DatabaseError(
                    f"table '{name}' has names {known}, not relative to {folder!r} (from the database): index into "
                    "another table, or leave `relative_to` out"
                )
            return table, widen_columns(table, columns)
        window_s = DEFAULT_WINDOW_S if window_s is None else window_s
        hop_s = min(DEFAULT_HOP_S, window_s) if hop_s is None else hop_s
        if not 0 < hop_s <= window_s:
            raise ConfigError(f"need 0 < hop <= window, got window {window_s} s and hop {hop_s} s")
        database.drop_table(ledger_name(name))  # of an earlier table of that name
        info = replace(TableInfo.of(encoder, window_s, hop_s), relative_to=folder or "")
        stored = {column: stored_type(kind) for column, kind in columns.items()}
        return database.create_table(name, info, [pa.field(*column) for column in stored.items()]), stored


def _check_windows(table: Table, window_s: float | None, hop_s: float | None) -> None:
    info = table.info
    window_s = info.window_s if window_s is None else window_s
    hop_s = info.hop_s if hop_s is None else hop_s
    if (window_s, hop_s) != (info.window_s, info.hop_s):
        raise DatabaseError(
            f"table '{table.name}' has windows of {info.window_s:g} s every {info.hop_s:g} s, not of {window_s:g} s "
            f"every {hop_s:g} s: leave window and hop out, or index into another table"
        )

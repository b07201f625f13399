"""Values of rows that were moved: what a recording's rows had at its old name, they have at its new one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from clara_search.store.table import row_id
from indexer.embed.batches import EmbeddedItem
from indexer.ledger.entry import caption_suffix

_MOST_CAPTIONS = 1000


def with_kept_values(rows: pa.Table, embedded: Sequence[EmbeddedItem], schema: pa.Schema) -> pa.Table:
    """Return rows that, where they have no value, have that of the row that they take the place of."""
    kept = list[Mapping[str, Any]]()
    for item in embedded:
        kept += [*item.loaded.kept, *({} for _ in item.windows[len(item.loaded.kept) :])]
    for name in sorted(set().union(*kept)):
        own = rows[name].to_pylist() if name in rows.schema.names else [None] * rows.num_rows
        values = [old.get(name) if value is None else value for value, old in zip(own, kept, strict=True)]
        column = pa.array(values, schema.field(name).type)
        rows = rows.drop_columns([name]) if name in rows.schema.names else rows
        rows = rows.append_column(name, column)
    return rows


def renamed_id(id_: str, uri: str, name: str, span: tuple[float | None, float | None]) -> str:
    """Return the id of a row of `uri` for another name; the times of a text, of its segment, are not in it."""
    for suffix in ("", *map(caption_suffix, range(1, _MOST_CAPTIONS))):
        for times in (span, (None, None)):
            if id_ == row_id(uri + suffix, *times):
                return row_id(name + suffix, *times)
    return row_id(name, None, None)


def renamed_rows(rows: pa.Table, rename: Callable[[str], str]) -> pa.Table:
    """Return rows of a corpus table whose recordings and texts have other names, with the ids of these."""
    uris = rows["uri"].to_pylist()
    names = [rename(uri) for uri in uris]
    if names == uris:
        return rows
    ids, spans = rows["id"].to_pylist(), zip(rows["start_s"].to_pylist(), rows["end_s"].to_pylist(), strict=True)
    for number, (uri, name, span) in enumerate(zip(uris, names, spans, strict=True)):
        ids[number] = renamed_id(ids[number], uri, name, span)
    for column, values in (("uri", names), ("id", ids)):
        position = rows.schema.get_field_index(column)
        rows = rows.set_column(position, rows.schema.field(position), pa.array(values, pa.string()))
    return rows

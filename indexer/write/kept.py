"""Values of rows that were moved: what a recording's rows had at its old name, they have at its new one."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from indexer.embed.batches import EmbeddedItem


def with_kept_values(rows: pa.Table, embedded: Sequence[EmbeddedItem], schema: pa.Schema) -> pa.Table:
    """Return rows that, where they have no value, have that of the row that they take the place of."""
    kept = [values for item in embedded for values in (item.loaded.kept or [{}] * len(item.windows))]
    for name in sorted(set().union(*kept)):
        own = rows[name].to_pylist() if name in rows.schema.names else [None] * rows.num_rows
        values = [old.get(name) if value is None else value for value, old in zip(own, kept, strict=True)]
        column = pa.array(values, schema.field(name).type)
        rows = rows.drop_columns([name]) if name in rows.schema.names else rows
        rows = rows.append_column(name, column)
    return rows

"""The labelled rows of tables, as examples for a classifier."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from clara_search.classification.neighbours import Examples
from clara_search.errors import QueryError
from clara_search.files.limits import LABELS
from clara_search.store.table import Table

if TYPE_CHECKING:
    import pyarrow as pa


def read_examples(tables: Sequence[Table], column: str, multi_label: bool = False) -> Examples:
    """Read the audio rows that have a label.

    Args:
        tables: The tables; at least one has the column.
        column: A column of texts, whole numbers or truth values; with `multi_label` also of lists of such. An empty
            text is no label, an empty list is an example to which no label applies.
        multi_label: Whether a row may have several labels.

    Returns:
        The examples.

    Raises:
        QueryError: There is no such column, it holds something else, or no row has a label.
    """
    present = [table for table in tables if column in table.schema.names]
    if not present:
        columns = dict.fromkeys(name for table in tables for name in table.schema.names if name != "vector")
        raise QueryError(f"no column {column!r} with labels; there are {', '.join(columns)}")
    vectors, labels, uris, ids = [], list[tuple[str, ...]](), list[str](), list[str]()
    for table in present:
        _check_type(table, column, multi_label)
        where = f"kind = 'audio' AND `{column}` IS NOT NULL"
        for batch in table.batches(["id", "uri", "vector", column], where):
            matrix = batch["vector"].flatten().to_numpy(zero_copy_only=False).reshape(-1, table.info.dim)
            found = [_labels(value) for value in batch[column].to_pylist()]
            is_finite = np.isfinite(matrix).all(axis=1)
            use = [number for number, some in enumerate(found) if some is not None and is_finite[number]]
            vectors.append(matrix[use].astype(np.float32))
            labels += [some for number in use if (some := found[number]) is not None]
            uris += [table.names.show(batch["uri"][number].as_py()) for number in use]
            ids += [batch["id"][number].as_py() for number in use]
    different = set().union(*labels)
    if not different:
        raise QueryError(f"no audio row has a label in the column {column!r}")
    LABELS.check(len(different), f"the column {column!r}", QueryError)
    return Examples(np.concatenate(vectors), labels, uris, ids)


def _check_type(table: Table, column: str, multi_label: bool) -> None:
    from pyarrow import types

    kind: pa.DataType = table.schema.field(column).type
    if types.is_list(kind) and not multi_label:
        raise QueryError(f"the column {column!r} holds lists: a row may have several labels (`multi_label`)")
    element = kind.value_type if types.is_list(kind) else kind
    is_text = types.is_string(element) or types.is_large_string(element)
    if not (is_text or types.is_integer(element) or types.is_boolean(element)):
        raise QueryError(f"the column {column!r} holds {kind}: labels are texts, whole numbers or truth values")


def _labels(value: Any) -> tuple[str, ...] | None:
    """Return the labels of a cell; None for one that says nothing."""
    if isinstance(value, list):
        return tuple(dict.fromkeys(_texts(value)))
    return tuple(_texts([value])) or None


def _texts(values: Iterable[Any]) -> Iterable[str]:
    for value in values:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            continue
        text = str(value).lower() if isinstance(value, bool) else str(value).strip()
        if text:
            yield text

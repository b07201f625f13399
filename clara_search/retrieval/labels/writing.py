"""Labels that are written into tables: a column of labels and one of their probabilities.

A batch of rows is read, labelled and written under the lock that `index` commits under, in one commit: a reader sees it
whole or not at all, and after a crash the batches before it are there. Rows keep their ids, vectors and content hashes,
so the ledger accounts for the table as before. A recording that is embedded again has no label until it is classified
again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from clara_search.classification.base import Classification
from clara_search.errors import QueryError
from clara_search.retrieval.hits import Hit
from clara_search.store.fitting import fit_rows
from clara_search.store.schema import CORE_COLUMNS
from clara_search.store.table import Table

if TYPE_CHECKING:
    import pyarrow as pa

PROBABILITY_SUFFIX = "_probability"

_TAKEN = frozenset((*CORE_COLUMNS, *Hit.__dataclass_fields__, "path", "captions"))
"""Names that tables, hits or sources use themselves, in lower case."""

_LONGEST_NAME = 200


class RowLabels(NamedTuple):
    """What a row gets.

    Attributes:
        labels: Its labels; one or none where a row has no more than one.
        probabilities: The probability of each; of one label also where it is too low to be given, or not known.
    """

    labels: tuple[str, ...]
    probabilities: tuple[float | None, ...]

    @classmethod
    def of(cls, item: Classification) -> Self:
        """Return what the row of a classification gets."""
        if item.labels is not None:
            return cls(tuple(map(_stored, item.labels)), tuple(item.scores[label] for label in item.labels))
        return cls(() if item.label is None else (_stored(item.label),), (item.probability,))


@dataclass
class WrittenLabels:
    """Counts of rows that were labelled, or would be.

    Attributes:
        column: The column of the labels.
        rows: Rows that were classified.
        labels: Number of rows by label, the most frequent one first.
        unlabelled: Rows without a label: its probability is too low, or the vector is not finite.
        changed: Rows that were left as they are, because their recording was indexed again or deleted meanwhile.
    """

    column: str
    rows: int = 0
    labels: dict[str, int] = field(default_factory=dict)
    unlabelled: int = 0
    changed: int = 0

    def add(self, rows: Collection[RowLabels], written: int) -> None:
        """Count the labels of a batch of rows, of which so many were written."""
        self.rows += len(rows)
        self.changed += len(rows) - written
        self.unlabelled += sum(not row.labels for row in rows)
        counts = Counter(self.labels)
        counts.update(label for row in rows for label in row.labels)
        self.labels = dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


class LabelColumns:
    """The two columns of labels and probabilities of a table.

    Args:
        table: The table.
        column: Name of the column of labels; that of the probabilities is `COLUMN_probability`.
        is_multi_label: Whether a row may have several labels: the columns then hold lists.

    Raises:
        QueryError: The name cannot be that of a column, or the table has such a column with something else.
    """

    def __init__(self, table: Table, column: str, is_multi_label: bool) -> None:
        import pyarrow as pa

        _check_name(column)
        self._table = table
        self._is_multi_label = is_multi_label
        text, number = pa.string(), pa.float64()
        types = (pa.list_(text), pa.list_(number)) if is_multi_label else (text, number)
        self._fields = [pa.field(*pair) for pair in zip((column, column + PROBABILITY_SUFFIX), types, strict=True)]
        present = {name.casefold(): name for name in table.schema.names}
        held = [present[f.name.casefold()] for f in self._fields if f.name.casefold() in present]
        if not held:
            return
        fits = held == [f.name for f in self._fields]
        if not fits or any(table.schema.field(f.name).type != f.type for f in self._fields):
            raise QueryError(
                f"table '{table.name}' has a column {held[0]!r} that holds something else than such labels: write into "
                "another one"
            )

    def write(self, expected: Mapping[str, str], labels: Mapping[str, RowLabels]) -> int:
        """Write the labels of rows in one commit, and return how many rows there were.

        Args:
            expected: The content hash that each row had when it was classified, by id.
            labels: The labels, by id.

        Raises:
            DatabaseError: The table cannot be written.
        """
        import pyarrow as pa

        table = self._table
        with table.connection.commit_lock(table.name), table.connection.lock(table.name):
            missing = [f for f in self._fields if f.name not in table.schema.names]
            if missing:
                table.alter(lambda lance: lance.add_columns(missing))
            rows = self._read(expected, table.schema.names)
            count = int(rows.num_rows)
            # LanceDB writes no vectors that are not finite; such rows have no label anyway.
            rows = rows.filter(pa.array(_is_finite(rows["vector"], table.info.dim)))
            if not rows.num_rows:
                return count
            found = [labels[id_] for id_ in rows["id"].to_pylist()]
            for f, values in zip(self._fields, self._values(found), strict=True):
                rows = rows.set_column(rows.schema.get_field_index(f.name), f, pa.array(values, f.type))
            fitted = fit_rows(rows, table.schema, table.name)
            # Rows are only updated: one that was deleted does not come back.
            table.alter(lambda lance: lance.merge_insert("id").when_matched_update_all().execute(fitted))
            return count

    def _read(self, expected: Mapping[str, str], columns: Sequence[str]) -> pa.Table:
        """Return the rows that are still those which were classified."""
        import pyarrow as pa

        batches = [pa.RecordBatch.from_pylist([], self._table.schema)]
        for where in self._table.keys_in(list(expected)):
            for batch in self._table.batches(columns, where):
                pairs = zip(batch["id"].to_pylist(), batch["content_hash"].to_pylist(), strict=True)
                batches.append(batch.filter(pa.array([expected[id_] == content for id_, content in pairs])))
        return pa.Table.from_batches([batch.select(self._table.schema.names) for batch in batches])

    def _values(self, rows: Sequence[RowLabels]) -> tuple[list[Any], list[Any]]:
        if self._is_multi_label:
            return [row.labels for row in rows], [row.probabilities for row in rows]
        return [row.labels[0] if row.labels else None for row in rows], [row.probabilities[0] for row in rows]


def _stored(label: str) -> str:
    """Return a label as a table can hold it: half a surrogate pair, out of the JSON of a head, is "?"."""
    return label.encode("utf-8", "replace").decode()


def _is_finite(vectors: pa.ChunkedArray, dim: int) -> npt.NDArray[np.bool_]:
    """Return for each of the vectors, shape (n, dim), whether it is finite."""
    values = vectors.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(np.isfinite(values.reshape(-1, dim)).all(axis=1))


def _check_name(column: str) -> None:
    """Raise QueryError for a name that a filter could not spell, or that something else has."""
    problem = None
    if not column.strip() or not column.isprintable() or any(mark in column for mark in ".`") or column[0] == "_":
        problem = "has an underscore first, a dot, a backtick or nothing to be seen"
    elif len(column) > _LONGEST_NAME:
        problem = f"is longer than {_LONGEST_NAME} characters"
    elif {column.casefold(), column.casefold() + PROBABILITY_SUFFIX} & _TAKEN or column.startswith("clara_cast_"):
        problem = "is used by tables and hits themselves"
    if problem is not None:
        raise QueryError(f"labels cannot be written into a column {column!r}: the name {problem}")

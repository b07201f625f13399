"""Ranked rows: what a search finds, before hits are built of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from clara_search.retrieval.exact.scan import RowPositions


@dataclass(frozen=True, eq=False)
class RankedRows:
    """Rows of a snapshot in the order of a query, best first.

    Attributes:
        positions: Positions in the snapshot, shape (n,).
        scores: Cosines, rounded, shape (n,).
        fields: Further fields of the hits by name, a value for each row. They take the place of the hit's attribute or
            the table's column of that name.
        allowed: Positions of all rows that pass the filters of the search, ascending; None for all.
    """

    positions: RowPositions
    scores: npt.NDArray[np.float64]
    fields: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    allowed: RowPositions | None = None

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, numbers: Sequence[int] | npt.NDArray[np.int64] | slice) -> RankedRows:
        """Return the rows of these numbers, in this order, with their fields."""
        chosen = np.arange(len(self))[numbers]
        fields = {name: [values[number] for number in chosen] for name, values in self.fields.items()}
        return RankedRows(self.positions[chosen], self.scores[chosen], fields, self.allowed)

    def with_fields(self, **fields: Sequence[Any]) -> RankedRows:
        """Return the rows with further fields, a value for each row."""
        return RankedRows(self.positions, self.scores, {**self.fields, **fields}, self.allowed)

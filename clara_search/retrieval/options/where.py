"""The option `where`: an SQL filter over the table's columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from clara_search.retrieval.snapshot import Snapshot
    from clara_search.store.table import Table


class WhereFilter:
    """Keeps rows that pass an SQL filter."""

    help: ClassVar[str] = "Only rows that match, such as \"language = 'de'\"."
    metavar: ClassVar[str | None] = "SQL"

    def __init__(self, value: str) -> None:
        self.where = value

    def mask(self, table: Table, snapshot: Snapshot) -> npt.NDArray[np.bool_]:
        """Return a flag for each row. Raises QueryError for a filter that cannot be parsed or names no column."""
        import numpy as np

        positions = snapshot.positions(table.row_ids(self.where))
        mask = np.zeros(len(snapshot), dtype=bool)
        mask[positions[positions >= 0]] = True
        return mask

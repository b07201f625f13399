"""The option `distinct`: copies as one hit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from clara_search.retrieval.query import Query
    from clara_search.retrieval.ranked import RankedRows
    from clara_search.retrieval.snapshot import Snapshot


class Distinct:
    """Folds copies and near-duplicates into their best hit, which says how many they are."""

    help: ClassVar[str] = "Fold copies and near-duplicates into one hit."
    metavar: ClassVar[str | None] = None

    def __init__(self, value: bool) -> None:
        self.is_on = value

    def select(self, snapshot: Snapshot, query: Query, rows: RankedRows) -> RankedRows:
        """Return the best row of each group of copies, with the field `copies`."""
        from clara_search.retrieval.diversity import fold_copies

        return fold_copies(snapshot, rows) if self.is_on else rows

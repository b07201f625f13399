"""The option `diversity`: hits that differ from each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from clara_search.errors import QueryError

if TYPE_CHECKING:
    from clara_search.retrieval.query import Query
    from clara_search.retrieval.ranked import RankedRows
    from clara_search.retrieval.snapshot import Snapshot

POOL = 200
"""The number of best rows that are reordered, however many hits are asked for."""


class Diversity:
    """Reorders the best rows by maximal marginal relevance (Carbonell and Goldstein 1998)."""

    help: ClassVar[str] = "Weight of differing from the hits above, 0 to 1."
    metavar: ClassVar[str | None] = "SHARE"

    def __init__(self, value: float) -> None:
        if not 0 <= value <= 1:
            raise QueryError(f"diversity must lie between 0 and 1, got {value}")
        self.share = value

    def depth(self, snapshot: Snapshot, wanted: int) -> int:
        """Return how many rows to rank first."""
        return max(wanted, POOL)

    def select(self, snapshot: Snapshot, query: Query, rows: RankedRows) -> RankedRows:
        """Return the rows, the best of them in another order."""
        import numpy as np

        from clara_search.retrieval.diversity import marginal_relevance

        pool = rows.positions[:POOL]
        scores = np.asarray(rows.fields.get("relevance", rows.scores))[: len(pool)]
        chosen = marginal_relevance(snapshot.vectors_at(pool), scores, self.share)
        return rows.take([*chosen, *range(len(pool), len(rows))])

"""The protocols of a search option: a filter of rows, of ranked rows or of hits, or a part of the ranking.

Files of options import numpy, pyarrow and LanceDB inside functions only: `--help` reads `help` and `metavar`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from clara_search.retrieval.hits import Hit
    from clara_search.retrieval.query import Query
    from clara_search.retrieval.ranked import RankedRows
    from clara_search.retrieval.snapshot import Snapshot
    from clara_search.store.table import Table


class SearchOption(Protocol):
    """An option of `Index.search` and of `clara-search search`. It is made with its value.

    A class attribute `default` is the value of a search that names none; without it the option is left out.
    """

    help: ClassVar[str]
    """The line in `--help`."""
    metavar: ClassVar[str | None]
    """The placeholder in `--help`; None for choices and flags."""

    def __init__(self, value: Any) -> None:
        """Take a value that is not None.

        Args:
            value: The value, of the type that `SearchOptions` states.

        Raises:
            QueryError: The value is out of bounds.
        """


@runtime_checkable
class RowFilter(SearchOption, Protocol):
    """An option that decides which rows may be hits. Queries with it compare with every row: exact search."""

    def mask(self, table: Table, snapshot: Snapshot) -> npt.NDArray[np.bool_]:
        """Return the rows that may be hits.

        Args:
            table: The table.
            snapshot: Its rows in memory.

        Returns:
            A flag for each row of `snapshot`, shape (n,).

        Raises:
            QueryError: The value does not fit the table.
        """


@runtime_checkable
class RankedFilter(SearchOption, Protocol):
    """An option that drops, joins, judges or reorders ranked rows, and may add fields to their hits.

    It sees more rows than are asked for. Where too few of them stay, it is called again with more, until enough stay or
    there are no more rows: of the same query, the first rows of a longer ranking must give the same result. A method
    `depth(snapshot, wanted)` may say with how many rows it is called first, where `wanted` are to stay.
    """

    def select(self, snapshot: Snapshot, query: Query, rows: RankedRows) -> RankedRows:
        """Return the rows that stay.

        Args:
            snapshot: The table in memory; `snapshot.vectors_at` reads the vectors of rows.
            query: The query.
            rows: Rows of `snapshot`, best first.

        Returns:
            Some of them, in the order to show, with further fields if there are any.
        """


@runtime_checkable
class HitFilter(SearchOption, Protocol):
    """An option that drops or reorders hits. It sees the k best rows; their ranks are counted anew afterwards."""

    def apply(self, hits: list[Hit]) -> list[Hit]:
        """Return the hits that stay.

        Args:
            hits: The hits of one query, best first.

        Returns:
            Some of them, in the order to show.
        """


class RankingOption(SearchOption, Protocol):
    """An option that makes a search a hybrid one."""

    text_weight: float | None
    """Weight of words in the ranking, from 0 to 1, where vectors have the rest; None: the option changes nothing."""

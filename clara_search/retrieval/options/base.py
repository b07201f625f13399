"""The two protocols of a search option: a filter of rows, or a filter of hits.

Files of options import numpy, pyarrow and LanceDB inside functions only: `--help` reads `help` and `metavar`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from clara_search.retrieval.hits import Hit
    from clara_search.retrieval.snapshot import Snapshot
    from clara_search.store.table import Table


class SearchOption(Protocol):
    """An option of `Index.search` and of `clara-search search`. It is made with its value."""

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
class HitFilter(SearchOption, Protocol):
    """An option that drops or reorders hits. It sees the k best rows; their ranks are counted anew afterwards."""

    def apply(self, hits: list[Hit]) -> list[Hit]:
        """Return the hits that stay.

        Args:
            hits: The hits of one query, best first.

        Returns:
            Some of them, in the order to show.
        """

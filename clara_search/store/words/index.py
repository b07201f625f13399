"""The word index of a table: LanceDB's full-text index over its texts. It is part of each version of the table.

`build` makes it. Rows that are written later are found without it, by reading them, until compaction extends it; rows
that were deleted or changed are not found any more. Positions of words are not stored: phrases are no queries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from clara_search.store.compaction import NEVER
from clara_search.store.lance_errors import translate_read_errors
from clara_search.store.table import ROW_ID, Table
from clara_search.store.words.tokens import TOKENIZER

if TYPE_CHECKING:
    from collections.abc import Sequence

COLUMN = "text"
NAME = "text_idx"

_DAMAGED = "table '{}': its word index cannot be read ({{}}): `clara-search db verify --repair` builds it anew"


def exists(table: Table) -> bool:
    """Tell whether a table has a word index, of any version."""
    return any(index.name == NAME for index in _indices(table))


def is_built(table: Table) -> bool:
    """Tell whether a table has a word index that cuts words as this version does."""
    return any(index.name == NAME and _is_ours(index.index_details or {}) for index in _indices(table))


def build(table: Table) -> None:
    """Build the word index of a table, in place of one that there is.

    Args:
        table: The table, at its newest version.

    Raises:
        DatabaseError: The table cannot be written.
    """
    from lancedb.index import FTS

    config = FTS(with_position=False, **TOKENIZER)
    with table.connection.lock(table.name):
        table.alter(lambda lance: lance.create_index(COLUMN, config=config, replace=True, name=NAME))


def extend(table: Table) -> bool:
    """Take rows that were written since into the word index of a table.

    Args:
        table: The table, at its newest version.

    Returns:
        Whether there were any; False for a table without a word index.

    Raises:
        DatabaseError: The table cannot be read or written.
    """
    if not is_built(table) or not unindexed_rows(table):
        return False
    with table.connection.lock(table.name):
        table.alter(lambda lance: lance.optimize(cleanup_older_than=NEVER))
    return True


def match(
    table: Table, words: Sequence[tuple[str, ...]], limit: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Find rows by words of their texts.

    Args:
        table: The table, with a word index.
        words: Words, as `tokens.query_words` returns them.
        limit: Maximum number of rows.

    Returns:
        Lance's ids of the rows that have at least one of the words, and their BM25 scores, best first; shape (n,).

    Raises:
        DatabaseError: The word index is damaged.
    """
    from lancedb.query import MatchQuery

    if not words:
        return np.empty(0, np.int64), np.empty(0)
    with translate_read_errors(_DAMAGED.format(table.name)):
        # The defaults of its fields are not known to the type checker.
        match = MatchQuery(" ".join(form for forms in words for form in forms), COLUMN)  # type: ignore[call-arg]
        query = table._lance.search(match, query_type="fts")
        found = query.with_row_id(True).select([ROW_ID, "_score"]).limit(limit).to_arrow()
    scores = found["_score"].to_numpy().astype(np.float64)
    order = np.argsort(-scores, kind="stable")
    return found[ROW_ID].to_numpy().astype(np.int64)[order], scores[order]


def _indices(table: Table) -> Sequence[Any]:
    with translate_read_errors():
        return table._lance.list_indices()  # type: ignore[no-any-return]


def unindexed_rows(table: Table) -> int:
    """Return how many rows were written since the word index of a table was built or extended.

    Args:
        table: The table.

    Returns:
        The number of rows; 0 without a word index.

    Raises:
        DatabaseError: The word index is damaged.
    """
    with translate_read_errors(_DAMAGED.format(table.name)):
        statistics = table._lance.index_stats(NAME)
    return 0 if statistics is None else int(statistics.num_unindexed_rows)


def _is_ours(details: dict[str, Any]) -> bool:
    return all(details.get(name) == value for name, value in TOKENIZER.items()) and not details.get("with_position")

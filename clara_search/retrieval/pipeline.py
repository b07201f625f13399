"""From queries to hits: filter rows, rank them, fold and judge what was ranked, build hits, filter these.

The options of a search join at three points, as the protocols in `options/base.py` say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from clara_search.retrieval.hits import Hit, Hits, build_hits
from clara_search.retrieval.options.base import RankedFilter
from clara_search.retrieval.options.registry import SearchFilters
from clara_search.retrieval.query import Query
from clara_search.retrieval.ranked import RankedRows
from clara_search.retrieval.searcher import Searcher
from clara_search.retrieval.snapshot import Snapshot

_MORE = 4
"""How many times as many rows are ranked where too few are left of those that were."""


def answer(
    searcher: Searcher, queries: Sequence[Query], k: int, offset: int, exact: bool, filters: SearchFilters
) -> list[Hits]:
    """Answer queries.

    Args:
        searcher: The table.
        queries: The queries.
        k: Maximum number of hits for each.
        offset: Number of best hits to leave out.
        exact: Whether to compare with every row.
        filters: The options of the search.

    Returns:
        The hits of each query, best first.

    Raises:
        QueryError: A filter does not fit the table.
        DatabaseError: The table cannot be read, or its ANN index is damaged.
    """
    if not queries:
        return []
    wanted = offset + k
    snapshot, ranked = rank(searcher, queries, wanted, exact, filters)
    results = []
    for query, rows in zip(queries, ranked, strict=True):
        hits = build_hits(snapshot, rows.take(slice(0, wanted)))
        for hit_filter in filters.hits:
            hits = hit_filter.apply(hits)
        results.append(Hits(count_ranks(hits)[offset:], query=query, notes=query.warnings))
    return results


def rank(
    searcher: Searcher, queries: Sequence[Query], wanted: int, exact: bool, filters: SearchFilters
) -> tuple[Snapshot, list[RankedRows]]:
    """Rank rows, and fold them, until `wanted` are left of each query or there are no more."""
    vectors = np.stack([query.vector for query in queries])
    snapshot = searcher.snapshot()
    allowed = searcher.filter_rows(snapshot, filters.rows)
    depth = max([wanted, *(_depth(option, snapshot, wanted) for option in filters.ranked)])
    while True:
        ranked = searcher.search(snapshot, vectors, depth, allowed, exact)
        folded = list(ranked)
        for option in filters.ranked:
            folded = [option.select(snapshot, *pair) for pair in zip(queries, folded, strict=True)]
        # A ranking that is shorter than asked for holds every row that may be a hit.
        if all(len(rows) >= wanted or len(all_rows) < depth for rows, all_rows in zip(folded, ranked, strict=True)):
            return snapshot, folded
        depth *= _MORE


def _depth(option: RankedFilter, snapshot: Snapshot, wanted: int) -> int:
    """Return the number of rows that `option` is to see first."""
    if (depth := getattr(option, "depth", None)) is not None:
        return int(depth(snapshot, wanted))
    return wanted * _MORE


def count_ranks(hits: Sequence[Hit]) -> list[Hit]:
    """Return the hits with ranks 1, 2 ..."""
    return [hit if hit.rank == rank else replace(hit, rank=rank) for rank, hit in enumerate(hits, start=1)]

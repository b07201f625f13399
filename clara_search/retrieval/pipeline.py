"""From queries to hits: filter rows, rank them, fold and judge what was ranked, build hits, filter these.

The options of a search join at three points, as the protocols in `options/base.py` say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from clara_search.errors import DatabaseError
from clara_search.retrieval.hits import Hit, Hits, build_hits
from clara_search.retrieval.hybrid.evidence import add_evidence, has_all_words
from clara_search.retrieval.hybrid.ranking import HybridRanking, prepared_snapshot
from clara_search.retrieval.options.base import RankedFilter
from clara_search.retrieval.options.registry import SearchFilters
from clara_search.retrieval.query import Query
from clara_search.retrieval.ranked import RankedRows
from clara_search.retrieval.searcher import Searcher
from clara_search.retrieval.snapshot import Snapshot

NOTHING_MATCHES = "nothing here matches: queries for what is not there find as much"
"""The note of an answer whose hits are no better than those of a query without a match."""

_MORE = 4
"""How many times as many rows are ranked where too few are left of those that were."""


def answer(
    searchers: Sequence[Searcher], queries: Sequence[Query], k: int, offset: int, exact: bool, filters: SearchFilters
) -> list[Hits]:
    """Answer queries.

    Args:
        searchers: The tables, whose vectors are of one encoder.
        queries: The queries.
        k: Maximum number of hits for each.
        offset: Number of best hits to leave out.
        exact: Whether to compare with every row.
        filters: The options of the search.

    Returns:
        The hits of each query, best first; of several tables, those that are best in all of them.

    Raises:
        QueryError: A filter does not fit a table.
        DatabaseError: A table cannot be read, or its ANN index is damaged.
    """
    if not queries:
        return []
    wanted = offset + k
    hybrid = None
    if filters.text_weight is not None:
        hybrid = HybridRanking(searchers, queries, filters.text_weight, filters.rows, exact)
    found = [_hits_of(searcher, queries, wanted, exact, filters, hybrid) for searcher in searchers]
    if len(searchers) > 1:
        for searcher, results in zip(searchers, found, strict=True):
            for answered in results:
                answered.hits[:] = [
                    replace(hit, db=searcher.names[0], table=searcher.names[1]) for hit in answered.hits
                ]
    answers = []
    for query, *parts in zip(queries, *found, strict=True):
        notes = [*query.warnings, *([NOTHING_MATCHES] if all(part.nothing_matches for part in parts) else [])]
        hits = count_ranks(_merge([part.hits for part in parts]))[offset:wanted]
        answers.append(Hits(hits, query=query, notes=notes))
    return answers


class _Found(NamedTuple):
    """The hits of a query in one table, and whether all of them are no better than those of a query without a match."""

    hits: list[Hit]
    nothing_matches: bool


def _hits_of(
    searcher: Searcher,
    queries: Sequence[Query],
    wanted: int,
    exact: bool,
    filters: SearchFilters,
    hybrid: HybridRanking | None,
) -> list[_Found]:
    """Return the `wanted` best hits of each query in one table; once more where its version was deleted meanwhile."""
    try:
        return _hits_of_newest(searcher, queries, wanted, exact, filters, hybrid)
    except DatabaseError:
        if not searcher.forget_old_version():
            raise
    return _hits_of_newest(searcher, queries, wanted, exact, filters, hybrid)


def _hits_of_newest(
    searcher: Searcher,
    queries: Sequence[Query],
    wanted: int,
    exact: bool,
    filters: SearchFilters,
    hybrid: HybridRanking | None,
) -> list[_Found]:
    snapshot, ranked = rank(searcher, queries, wanted, exact, filters, hybrid)
    results = []
    for query, rows in zip(queries, ranked, strict=True):
        best = rows.take(slice(0, wanted))
        if searcher.judge is not None and len(best):
            best = searcher.judge(query, snapshot, best)
        if hybrid is not None:
            best = add_evidence(snapshot, query, best)
        hits = build_hits(snapshot, best)
        nothing_matches = bool(hits) and all(hit.is_significant is False for hit in hits)
        nothing_matches &= hybrid is None or not has_all_words(query, hits)
        for hit_filter in filters.hits:
            hits = hit_filter.apply(hits)
        results.append(_Found(hits, nothing_matches))
    return results


def _merge(found: Sequence[list[Hit]]) -> list[Hit]:
    """Return the hits of several tables by relevance and score, equal ones by id, then in the order of the tables."""
    if len(found) == 1:
        return found[0]
    return sorted(
        (hit for hits in found for hit in hits), key=lambda hit: (-(hit.relevance or 0.0), -hit.score, hit.id)
    )


def rank(
    searcher: Searcher,
    queries: Sequence[Query],
    wanted: int,
    exact: bool,
    filters: SearchFilters,
    hybrid: HybridRanking | None = None,
) -> tuple[Snapshot, list[RankedRows]]:
    """Rank rows, and fold them, until `wanted` are left of each query or there are no more."""
    vectors = np.stack([query.vector for query in queries])
    snapshot = searcher.snapshot() if hybrid is None else prepared_snapshot(searcher)
    kinds = {query.modality for query in queries}
    direction = kinds.pop() if len(kinds) == 1 else None
    allowed = searcher.filter_rows(snapshot, filters.rows)
    depth = max([wanted, *(_depth(option, snapshot, wanted) for option in filters.ranked)])
    depth += max(len(query.exclude) for query in queries)
    while True:
        if hybrid is None:
            ranked = searcher.search(snapshot, vectors, depth, allowed, exact, direction)
        else:
            ranked = hybrid.rank(searcher, snapshot, depth, allowed)
        folded = [_without(snapshot, rows, query.exclude) for query, rows in zip(queries, ranked, strict=True)]
        for option in filters.ranked:
            folded = [option.select(snapshot, *pair) for pair in zip(queries, folded, strict=True)]
        # A ranking that is shorter than asked for holds every row that may be a hit.
        if all(len(rows) >= wanted or len(all_rows) < depth for rows, all_rows in zip(folded, ranked, strict=True)):
            return snapshot, folded
        depth *= _MORE


def _without(snapshot: Snapshot, rows: RankedRows, ids: frozenset[str]) -> RankedRows:
    """Return `rows` without those of some ids."""
    if not ids:
        return rows
    return rows.take(np.flatnonzero(~np.isin(rows.positions, snapshot.positions_of(ids))))


def _depth(option: RankedFilter, snapshot: Snapshot, wanted: int) -> int:
    """Return the number of rows that `option` is to see first."""
    if (depth := getattr(option, "depth", None)) is not None:
        return int(depth(snapshot, wanted))
    return wanted * _MORE


def count_ranks(hits: Sequence[Hit]) -> list[Hit]:
    """Return the hits with ranks 1, 2 ..."""
    return [hit if hit.rank == rank else replace(hit, rank=rank) for rank, hit in enumerate(hits, start=1)]

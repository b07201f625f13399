"""The ranking of a hybrid search: both parts of each query in each table, and how they become one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from clara_search.errors import DatabaseError, QueryError
from clara_search.retrieval.exact.scan import RowPositions
from clara_search.retrieval.hybrid.fusion import POOL, Parts, Rivals, Scores, fuse
from clara_search.retrieval.options.base import RowFilter
from clara_search.retrieval.query import Query
from clara_search.retrieval.ranked import RankedRows
from clara_search.retrieval.searcher import Searcher
from clara_search.retrieval.snapshot import Snapshot
from clara_search.store.words import index as word_index
from clara_search.store.words.tokens import query_words

_SCORE_DECIMALS = 4
_MORE = 8


class HybridRanking:
    """Ranks rows by their vectors and by the words of their texts.

    Args:
        searchers: All tables of the search.
        queries: The queries.
        text_weight: Weight of the words, from 0 to 1.
        row_filters: The filters of rows.
        exact: Whether to compare vectors with every row.

    Raises:
        QueryError: A query has no words, or no table has texts.
        DatabaseError: A table has no word index, and none can be built.
    """

    def __init__(
        self,
        searchers: Sequence[Searcher],
        queries: Sequence[Query],
        text_weight: float,
        row_filters: Sequence[RowFilter],
        exact: bool,
    ):
        self._searchers = searchers
        self._queries = queries
        self._text_weight = text_weight
        self._row_filters = row_filters
        self._exact = exact
        self._found: dict[tuple[Snapshot, int], list[Parts]] = {}
        for query in queries:
            if not query.words.strip():
                raise QueryError("hybrid search needs a text, whose words it looks up: give one, or search without")
        self._words = [query_words(query.words) for query in queries]
        if not sum(prepared_snapshot(searcher).has_texts for searcher in searchers):
            raise QueryError(
                f"hybrid search needs texts, and no row of table '{searchers[0].table.name}' has one: index captions "
                "or transcripts (`transcribe`), or search without"
            )

    def rank(
        self, searcher: Searcher, snapshot: Snapshot, depth: int, allowed: RowPositions | None
    ) -> list[RankedRows]:
        """Return the best rows of each query in one table, with fields of the hybrid search.

        Args:
            searcher: The table.
            snapshot: The table in memory.
            depth: Number of rows.
            allowed: Positions of rows that pass the filters; None for all.

        Returns:
            At most `depth` rows for each query, best first.
        """
        found = self._parts(searcher, snapshot, depth, allowed)
        return [
            fuse(snapshot, query, parts, self._text_weight, rivals).take(slice(0, depth))
            for query, parts, rivals in zip(self._queries, found, self._rivals[searcher.names], strict=True)
        ]

    def _parts(self, searcher: Searcher, snapshot: Snapshot, depth: int, allowed: RowPositions | None) -> list[Parts]:
        """Return both rankings of each query, found once for all depths up to POOL."""
        depth = max(depth, POOL)
        if (snapshot, depth) not in self._found:
            vectors = np.stack([query.vector for query in self._queries])
            ranked = searcher.search(snapshot, vectors, depth, allowed, self._exact)
            matched = [_match(snapshot, words, depth, allowed) for words in self._words]
            self._found[snapshot, depth] = [Parts(rows, *match) for rows, match in zip(ranked, matched, strict=True)]
        return self._found[snapshot, depth]

    @cached_property
    def _rivals(self) -> dict[tuple[str, str], list[Rivals]]:
        """For each table and query the scores in the other tables."""
        none = Rivals(np.empty(0), np.empty(0))
        if len(self._searchers) == 1:
            return {self._searchers[0].names: [none] * len(self._queries)}
        parts = {}
        for searcher in self._searchers:
            snapshot = searcher.snapshot()
            allowed = searcher.filter_rows(snapshot, self._row_filters)
            parts[searcher.names] = self._parts(searcher, snapshot, POOL, allowed)
        return {
            names: [
                Rivals(
                    np.concatenate(
                        [other[number].by_vector.scores for place, other in parts.items() if place != names]
                    ),
                    np.concatenate([other[number].word_scores for place, other in parts.items() if place != names]),
                )
                for number in range(len(self._queries))
            ]
            for names in parts
        }


def prepared_snapshot(searcher: Searcher) -> Snapshot:
    """Return the newest version of a table, after its word index was built if it has texts and no such index.

    Raises:
        DatabaseError: The table cannot be written.
    """
    snapshot = searcher.snapshot()
    if not snapshot.has_texts or snapshot.has_word_index:
        return snapshot
    try:
        word_index.build(searcher.table)
    except DatabaseError as error:
        raise DatabaseError(
            f"hybrid search needs a word index of table '{searcher.table.name}', and none can be built: {error}"
        ) from error
    return searcher.snapshot()


def _match(
    snapshot: Snapshot, words: Sequence[tuple[str, ...]], wanted: int, allowed: RowPositions | None
) -> tuple[RowPositions, Scores]:
    """Return the positions and scores of the rows that words match best, equal ones in the order of ids.

    They are at least as many as wanted, if there are so many: of rows with equal scores none is left out.
    """
    limit = wanted + 1
    while snapshot.has_texts:
        row_ids, scores = word_index.match(snapshot.table, words, limit)
        positions, scores = snapshot.positions(row_ids), scores.round(_SCORE_DECIMALS)
        is_all = len(row_ids) < limit
        keep = (positions >= 0) if is_all else (positions >= 0) & (scores > scores[-1])
        if allowed is not None:
            keep &= np.isin(positions, allowed)
        if is_all or keep.sum() >= wanted:
            order = np.lexsort((snapshot.order[positions[keep]], -scores[keep]))
            return positions[keep][order], scores[keep][order]
        limit *= _MORE
    return np.empty(0, np.int64), np.empty(0)

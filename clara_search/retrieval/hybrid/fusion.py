"""Reciprocal rank fusion (Cormack, Clarke and Buettcher 2009) of two rankings: by cosine, and by the words of texts.

A row's relevance is the weighted sum of 61 / (60 + rank) over both rankings: 1 for the first of both. The first 1,000
ranks of each count; other rows follow by their cosines. Rows whose texts match equally well, as the windows of a
recording with one caption do, share a rank. Ranks are counted over all tables of a search. Equal relevance is ordered
by cosine, then by id.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clara_search.retrieval.exact.scan import RowPositions, rank_rows
from clara_search.retrieval.query import Query
from clara_search.retrieval.ranked import RankedRows
from clara_search.retrieval.snapshot import Snapshot

RANK_CONSTANT = 60
POOL = 1000
"""Ranks of each ranking that count."""

_DECIMALS = 9

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Parts:
    """The two rankings of a query in one table.

    Attributes:
        by_vector: Rows by cosine.
        positions: Positions of rows with words of the query, best first.
        word_scores: Their BM25 scores, rounded.
    """

    by_vector: RankedRows
    positions: RowPositions
    word_scores: Scores


@dataclass(frozen=True, eq=False)
class Rivals:
    """The best scores of a query in the other tables of a search, of which some may stand above a row.

    Attributes:
        cosines: Cosines, in any order.
        word_scores: BM25 scores, in any order.
    """

    cosines: Scores
    word_scores: Scores


def fuse(snapshot: Snapshot, query: Query, parts: Parts, text_weight: float, rivals: Rivals) -> RankedRows:
    """Rank the rows of two rankings together.

    Args:
        snapshot: The table.
        query: The query.
        parts: Both rankings.
        text_weight: Weight of the words, from 0 to 1; the vector has the rest. At 1 only rows with words are left.
        rivals: Scores in other tables.

    Returns:
        The rows, best first, with their cosines and the fields `relevance`, `vector_rank` and `text_rank`.
    """
    by_vector = parts.by_vector
    others = np.setdiff1d(parts.positions, by_vector.positions)
    found, cosines = rank_rows(query.vector, snapshot.vectors_at(others), others, len(others), snapshot.order)
    positions = np.concatenate([by_vector.positions, found])
    scores = np.concatenate([by_vector.scores, cosines])

    vector_ranks = np.full(len(positions), np.inf)
    vector_ranks[: len(by_vector)] = np.arange(1, len(by_vector) + 1) + _better(rivals.cosines, by_vector.scores)
    levels = np.unique(np.concatenate([parts.word_scores, rivals.word_scores]))
    text_ranks = np.full(len(positions), np.inf)
    slots = _slots(positions, parts.positions)
    text_ranks[slots] = len(levels) - np.searchsorted(levels, parts.word_scores)
    if text_weight == 1:
        vector_ranks[:] = np.inf
    for ranks in (vector_ranks, text_ranks):
        ranks[ranks > POOL] = np.inf

    top = RANK_CONSTANT + 1
    relevance = (1 - text_weight) * top / (RANK_CONSTANT + vector_ranks)
    relevance = (relevance + text_weight * top / (RANK_CONSTANT + text_ranks)).round(_DECIMALS)
    order = np.lexsort((snapshot.order[positions], -scores, -relevance))
    if text_weight == 1:
        order = order[np.isin(positions[order], parts.positions)]
    return RankedRows(positions[order], scores[order], allowed=by_vector.allowed).with_fields(
        relevance=relevance[order].tolist(),
        vector_rank=_as_ranks(vector_ranks[order]),
        text_rank=_as_ranks(text_ranks[order]),
    )


def _better(rivals: Scores, scores: Scores) -> npt.NDArray[np.int64]:
    """Return how many of `rivals` are above each of `scores`."""
    return len(rivals) - np.searchsorted(np.sort(rivals), scores, side="right")


def _slots(positions: RowPositions, wanted: RowPositions) -> RowPositions:
    """Return where in `positions`, which holds each once, those `wanted` are."""
    order = np.argsort(positions)
    return order[np.searchsorted(positions, wanted, sorter=order)]


def _as_ranks(ranks: Scores) -> list[int | None]:
    return [int(rank) if np.isfinite(rank) else None for rank in ranks]

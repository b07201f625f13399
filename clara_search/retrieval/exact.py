"""Exact top-k by cosine over a matrix in memory: the reference of every approximate index."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clara_search.models.base import Embeddings

RowPositions = npt.NDArray[np.int64]
"""Row numbers in a matrix of vectors."""

SCORE_DECIMALS = 6
"""Scores are rounded to this: ids, not the last bit of a product, then order equal vectors."""

_MAX_SCORES_PER_BLOCK = 1 << 24  # 64 MiB of float32, whatever the number of queries


def top_k(
    queries: Embeddings, vectors: Embeddings, k: int, order: RowPositions, allowed: RowPositions | None = None
) -> list[tuple[RowPositions, npt.NDArray[np.float64]]]:
    """Return the nearest rows of each query.

    Args:
        queries: Unit vectors, shape (q, dim).
        vectors: Unit vectors, shape (n, dim).
        k: Number of rows, at least 1.
        order: Ranks that decide between equal scores, ascending, shape (n,).
        allowed: Positions in `vectors` that may be returned; None for all.

    Returns:
        For each query the positions of its best `k` rows, best first, and their cosines, rounded.
    """
    positions = np.arange(len(vectors)) if allowed is None else allowed
    step = max(_MAX_SCORES_PER_BLOCK // max(len(vectors), 1), 1)
    return [
        # Comparing with all rows and selecting scores is cheaper than copying the vectors of the selection.
        rank_scores(positions, scores if allowed is None else scores[allowed], k, order)
        for start in range(0, len(queries), step)
        for scores in cosines(queries[start : start + step], vectors)
    ]


def cosines(queries: Embeddings, vectors: Embeddings) -> Embeddings:
    """Return the cosines of unit vectors `queries` (q, dim) and `vectors` (n, dim), shape (q, n)."""
    if len(queries) == 1:
        # One thread, twice as fast as BLAS's product of matrix and vector, whose threads wait for each other.
        products: Embeddings = np.vecdot(vectors, queries[0])
        return products[np.newaxis]
    return queries @ vectors.T


def rank_scores(
    positions: RowPositions, scores: npt.NDArray[np.float32], k: int, order: RowPositions
) -> tuple[RowPositions, npt.NDArray[np.float64]]:
    """Select and order the best scores.

    Args:
        positions: Positions of rows, shape (n,).
        scores: Their scores, shape (n,).
        k: Number of rows to select.
        order: Ranks that decide between equal scores, indexed by position.

    Returns:
        Positions, best first, and rounded scores, both of shape (min(k, n),).
    """
    if len(scores) > k:
        threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
        keep = np.flatnonzero(scores >= threshold - 2 * 10**-SCORE_DECIMALS)  # with all that rounding could make equal
        positions, scores = positions[keep], scores[keep]
    rounded = scores.astype(np.float64).round(SCORE_DECIMALS)
    first = np.lexsort((order[positions], -rounded))[:k]
    return positions[first], rounded[first]

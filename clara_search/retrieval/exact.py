"""Exact top-k by cosine over a matrix in memory: the reference of every approximate index."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clara_search.models.base import Embeddings

RowPositions = npt.NDArray[np.int64]
"""Row numbers in a matrix of vectors."""

SCORE_DECIMALS = 6
"""Scores are rounded to this: ids, not the last bit of a product, then order equal vectors."""

TIE = 2 * 10**-SCORE_DECIMALS
"""Two float32 products that differ by less may be equal once they are computed exactly and rounded."""

_MAX_SCORES_PER_BLOCK = 1 << 24  # 64 MiB of float32, whatever the number of queries
_MAX_ROWS_PER_PRODUCT = 4096  # of float64


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
    step = max(_MAX_SCORES_PER_BLOCK // max(len(vectors), 1), 1)
    results = []
    for start in range(0, len(queries), step):
        block = queries[start : start + step]
        for query, scores in zip(block, cosines(block, vectors), strict=True):
            # Comparing with all rows and selecting scores is cheaper than copying the vectors of the selection.
            positions = best_scores(scores, k) if allowed is None else allowed[best_scores(scores[allowed], k)]
            results.append(rank_rows(query, vectors[positions], positions, k, order))
    return results


def cosines(queries: Embeddings, vectors: Embeddings) -> Embeddings:
    """Return the cosines of unit vectors `queries` (q, dim) and `vectors` (n, dim), shape (q, n)."""
    if len(queries) == 1:
        # One thread, twice as fast as BLAS's product of matrix and vector, whose threads wait for each other.
        products: Embeddings = np.vecdot(vectors, queries[0])
        return products[np.newaxis]
    return queries @ vectors.T


def best_scores(scores: npt.NDArray[np.float32], k: int) -> RowPositions:
    """Return the positions of the `k` best scores, shape (m,), m >= k, with all that may be equal to the last one."""
    if len(scores) <= k:
        return np.arange(len(scores))
    threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
    return np.flatnonzero(scores >= threshold - TIE)


def rank_rows(
    query: npt.NDArray[np.float32], vectors: Embeddings, positions: RowPositions, k: int, order: RowPositions
) -> tuple[RowPositions, npt.NDArray[np.float64]]:
    """Order rows by their cosine with a query, computed so that equal vectors have equal scores.

    Fast products sum in an order that depends on the row's place in its block, and on the number of queries.

    Args:
        query: Unit vector, shape (dim,).
        vectors: Unit vectors of the rows, shape (m, dim).
        positions: Positions of the rows, shape (m,).
        k: Number of rows to return.
        order: Ranks that decide between equal scores, indexed by position.

    Returns:
        Positions, best first, and rounded scores, both of shape (min(k, m),).
    """
    exact = query.astype(np.float64)
    scores = np.empty(len(positions))
    for start in range(0, len(positions), _MAX_ROWS_PER_PRODUCT):
        rows = slice(start, start + _MAX_ROWS_PER_PRODUCT)
        scores[rows] = np.vecdot(vectors[rows].astype(np.float64), exact)
    rounded = scores.round(SCORE_DECIMALS)
    first = np.lexsort((order[positions], -rounded))[:k]
    return positions[first], rounded[first]

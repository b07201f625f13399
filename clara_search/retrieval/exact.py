"""Exact top-k by cosine over a matrix in memory: what every approximate index is measured against."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clara_search.models.base import Embeddings

RowPositions = npt.NDArray[np.int64]
"""Row numbers in a matrix of vectors."""

SCORE_DECIMALS = 6
"""Scores are rounded to this: the order of equal vectors then depends on their ids and not on a matmul's last bit."""

_SCORES_A_BLOCK = 1 << 24  # 64 MiB of float32, whatever the number of queries


def top_k(
    queries: Embeddings, vectors: Embeddings, k: int, order: RowPositions, allowed: RowPositions | None = None
) -> list[tuple[RowPositions, npt.NDArray[np.float64]]]:
    """Return for each of `queries` (q, d) the positions in `vectors` (n, d) of its best `k`, best first, and scores.

    Both hold unit vectors. Equal scores stand by `order` (n,), ascending. Only the positions `allowed` count, where
    given.
    """
    positions = np.arange(len(vectors)) if allowed is None else allowed
    step = max(_SCORES_A_BLOCK // max(len(vectors), 1), 1)
    return [
        # Comparing with all rows and picking some is cheaper than copying the vectors of those first.
        rank_scores(positions, scores if allowed is None else scores[allowed], k, order)
        for start in range(0, len(queries), step)
        for scores in cosines(queries[start : start + step], vectors)
    ]


def cosines(queries: Embeddings, vectors: Embeddings) -> Embeddings:
    """Return the cosines of unit vectors `queries` (q, d) and `vectors` (n, d), shape (q, n)."""
    if len(queries) == 1:
        # One thread, twice as fast as BLAS's product of matrix and vector, whose threads wait for each other.
        products: Embeddings = np.vecdot(vectors, queries[0])
        return products[np.newaxis]
    return queries @ vectors.T


def rank_scores(
    positions: RowPositions, scores: npt.NDArray[np.float32], k: int, order: RowPositions
) -> tuple[RowPositions, npt.NDArray[np.float64]]:
    """Return the `k` of `positions` with the highest `scores` (both of shape (n,)), best first, and rounded scores."""
    if len(scores) > k:
        threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
        keep = np.flatnonzero(scores >= threshold - 2 * 10**-SCORE_DECIMALS)  # with all that rounding could make equal
        positions, scores = positions[keep], scores[keep]
    rounded = scores.astype(np.float64).round(SCORE_DECIMALS)
    first = np.lexsort((order[positions], -rounded))[:k]
    return positions[first], rounded[first]

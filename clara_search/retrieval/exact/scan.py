"""Exact top-k by cosine over a matrix in memory: the reference of every approximate index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from threading import Thread

import numpy as np
import numpy.typing as npt

from clara_search.cpu import core_count
from clara_search.models.base import Embeddings

RowPositions = npt.NDArray[np.int64]
"""Row numbers in a matrix of vectors."""

SCORE_DECIMALS = 6
"""Scores are rounded to this: ids, not the last bit of a product, then order equal vectors."""

TIE = 2 * 10**-SCORE_DECIMALS
"""Two float32 products that differ by less may be equal once they are computed exactly and rounded."""

_SCORES_PER_BLOCK = 64
_SIZE_PER_THREAD = 1 << 23  # numbers: 16,000 rows of 512
_MAX_THREADS = 4
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
    return _products(queries[0], vectors)[np.newaxis] if len(queries) == 1 else queries @ vectors.T


def _products(query: npt.NDArray[np.float32], vectors: Embeddings) -> npt.NDArray[np.float32]:
    """Return the cosines of one query (dim,) with `vectors` (n, dim), shape (n,).

    Reading the vectors takes all the time. BLAS's product of matrix and vector is half as fast as one thread, for its
    threads wait for each other; those here meet once, and one core's share of the memory's bandwidth is not all of it.
    """
    products = np.empty(len(vectors), dtype=np.float32)
    parts = split_rows(len(vectors), max(vectors.size // _SIZE_PER_THREAD, 1))
    run_parts(lambda rows: np.vecdot(vectors[rows], query, products[rows]), parts)
    return products


def split_rows(count: int, parts: int) -> list[slice]:
    """Return `count` rows in as many equal parts as threads are worth it, at most `parts`."""
    bounds = np.linspace(0, count, min(_cores(), parts) + 1).astype(np.int64).tolist()
    return [slice(first, last) for first, last in pairwise(bounds)]


def run_parts(run: Callable[[slice], object], parts: Sequence[slice]) -> None:
    """Run a function on each part of the rows, in a thread each, and raise what one of them raises.

    Threads of a pool would not be there any more in a forked process; starting one takes 50 microseconds.
    """
    errors: list[BaseException] = []

    def run_noting(part: slice) -> None:
        try:
            run(part)
        except BaseException as error:  # whatever it is, the caller gets it
            errors.append(error)

    threads = [Thread(target=run_noting, args=(part,)) for part in parts[1:]]
    for thread in threads:
        thread.start()
    run_noting(parts[0])
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


@cache
def _cores() -> int:
    return min(core_count(), _MAX_THREADS)


def best_scores(scores: npt.NDArray[np.float32], k: int) -> RowPositions:
    """Return the positions of the `k` best scores, shape (m,), m >= k, with all that may be equal to the last one."""
    if len(scores) <= k:
        return np.arange(len(scores))
    if len(scores) <= _SCORES_PER_BLOCK * k:
        threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
    else:
        # At least k scores reach the k-th best of the best scores of blocks: the others need no sorting.
        whole = len(scores) // _SCORES_PER_BLOCK * _SCORES_PER_BLOCK
        best = scores[:whole].reshape(-1, _SCORES_PER_BLOCK).max(axis=1)
        least = np.partition(best, len(best) - k)[len(best) - k]
        high = scores[scores >= least]
        threshold = np.partition(high, len(high) - k)[len(high) - k]
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

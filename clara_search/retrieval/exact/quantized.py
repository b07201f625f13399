"""An int8 copy of the vectors of a table: a scan of a quarter of the bytes finds the rows that may be nearest.

Comparing a query with every vector takes the time that reading them takes. The scan reads one byte a number instead of
four, and the rows that it leaves, some hundreds, are compared exactly. They are proven to hold the nearest: answers are
the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from clara_search.models.base import Embeddings
from clara_search.retrieval.ann.faiss_search import import_faiss, search_faiss
from clara_search.retrieval.exact.scan import TIE, RowPositions, run_parts, split_rows

_LEVELS = 127
_ROWS_PER_BLOCK = 8192
_FIRST_LOOK = 256  # rows; a heap of so many costs nothing beside the scan
_LAST_LOOK = 4096
_EPSILON = float(np.finfo(np.float32).eps)
_TINY = float(np.finfo(np.float32).tiny)


class QuantizedVectors:
    """Vectors in int8, a step for each dimension.

    With s the steps, x = s (c + u) for a vector x, its codes c and what rounding left, u; with t the step of a query q,
    s q = t (d + v). The cosine q x is the scanned t d c but for (s q) u and t v c, which are at most |s q| |u| and
    t |v| |c| (Cauchy and Schwarz): every row that the scan finds further below than that is out.

    Args:
        vectors: Unit vectors, shape (n, dim), n > 0; they are read while it is built, and have to be passed again to
            `candidates`.
    """

    def __init__(self, vectors: Embeddings):
        # Without an array of their size for the absolute values.
        largest = np.maximum(vectors.max(axis=0), -vectors.min(axis=0))
        self._steps = np.where(largest > 0, largest / _LEVELS, 1).astype(np.float32)
        self._rest = self._length = 0.0  # the largest |u| and |c|
        self._rows = split_rows(len(vectors), len(vectors))
        self._parts = {rows.start: self._scannable(vectors[rows]) for rows in self._rows}

    def candidates(
        self, query: npt.NDArray[np.float32], vectors: Embeddings, k: int, allowed: RowPositions | None = None
    ) -> RowPositions | None:
        """Return rows among which the nearest are, with all whose score may be equal to the last one's.

        Args:
            query: Unit vector, shape (dim,).
            vectors: The vectors that this was built from.
            k: Number of nearest rows, at least 1.
            allowed: Positions of rows that may be found; None for all.

        Returns:
            Positions of rows, shape (m,); None where so many are alike that a scan of the vectors costs less.
        """
        subset = None
        if allowed is not None:
            subset = np.zeros(len(vectors), dtype=bool)
            subset[allowed] = True
        scaled = query * self._steps
        step = float(np.abs(scaled).max(initial=_TINY)) / _LEVELS
        codes = np.rint(scaled / step)
        error = float(np.linalg.norm(scaled)) * self._rest + float(np.linalg.norm(scaled - step * codes)) * self._length
        error += _EPSILON * len(query)
        look = max(4 * k, _FIRST_LOOK)
        while look <= max(4 * k, _LAST_LOOK):
            scores, positions = self._scan(codes, look, subset)
            scores *= step
            nearest = positions[np.argsort(-scores, kind="stable")[:k]]
            if len(nearest) < k:  # all rows of the subset are there
                return positions
            least = float((vectors[nearest] @ query).min()) - error - TIE
            if len(positions) < look or np.partition(scores, len(scores) - look)[len(scores) - look] < least:
                return np.compress(scores >= least, positions)
            look *= 4
        return None

    def _scan(
        self, query: npt.NDArray[np.float32], count: int, subset: npt.NDArray[np.bool_] | None
    ) -> tuple[npt.NDArray[np.float32], RowPositions]:
        """Return the scanned scores of the `count` best rows of each part, unordered, and their positions."""
        found: list[tuple[npt.NDArray[np.float32], RowPositions]] = []

        def scan(rows: slice) -> None:
            part = self._parts[rows.start]
            of_part = None if subset is None else subset[rows]
            scores, labels = search_faiss(
                part, query[np.newaxis], min(count, part.ntotal), import_faiss().SearchParameters(), of_part
            )
            is_row = labels[0] >= 0
            found.append((scores[0][is_row], labels[0][is_row] + rows.start))

        run_parts(scan, self._rows)
        scores, positions = zip(*found, strict=True)
        return np.concatenate(scores), np.concatenate(positions)

    def _scannable(self, vectors: Embeddings) -> Any:
        """Return a FAISS index over the codes of `vectors`, and note what rounding left of them."""
        faiss = import_faiss()
        index = faiss.IndexScalarQuantizer(
            vectors.shape[1], faiss.ScalarQuantizer.QT_8bit_direct_signed, faiss.METRIC_INNER_PRODUCT
        )
        for start in range(0, len(vectors), _ROWS_PER_BLOCK):
            scaled = vectors[start : start + _ROWS_PER_BLOCK] / self._steps
            codes = np.rint(scaled)
            index.add(codes)
            rest = float(np.linalg.norm(scaled - codes, axis=1).max())
            self._rest = max(self._rest, rest * (1 + 1e-4))
            self._length = max(self._length, float(np.linalg.norm(codes, axis=1).max()) * (1 + 1e-4))
        return index

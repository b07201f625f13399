"""Ranks of the positives of queries in whole galleries, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from clara_search.metrics.intervals import FloatArray

TIE_TOLERANCE = 1e-6
"""A negative whose cosine is at most this far below a positive's counts as ranked before it: ties count as errors."""

Ranks = list[npt.NDArray[np.int64]]
"""For each query the ranks of its positives, ascending from 1."""

Relevant = Sequence[Sequence[int] | npt.NDArray[np.int64]]
"""For each query the indices of its positives in the gallery."""

_BLOCK_QUERIES, _BLOCK_ITEMS = 1024, 4096  # a product of 16 MiB, whatever the number of queries and items
_PAIRS = 65536  # of a query and a positive, whose cosines are computed at once
_MOST_LEVELS = 8  # of a query with more positives the product is sorted, where one pass a positive would take longer
_FEW = 0.02  # so many of the product's entries are picked out faster than passed over again
_WORD = 8  # bytes


def positive_ranks(
    queries: FloatArray, gallery: FloatArray, query_groups: npt.ArrayLike, gallery_groups: npt.ArrayLike
) -> Ranks:
    """Return for each query the ranks of its positives, ascending from 1: items of the gallery with its label.

    A tie counts as an error: see `TIE_TOLERANCE`.

    Args:
        queries: Unit vectors, shape (q, d).
        gallery: Unit vectors, shape (n, d).
        query_groups: Labels of the queries, shape (q,).
        gallery_groups: Labels of the gallery items, shape (n,).

    Raises:
        ValueError: Shapes disagree, there are no queries, a vector is not finite, or a query has no positive.
    """
    query_labels, gallery_labels = np.asarray(query_groups), np.asarray(gallery_groups)
    if len(queries) != len(query_labels) or len(gallery) != len(gallery_labels):
        raise ValueError("groups have another length than vectors")
    members = {label: np.flatnonzero(gallery_labels == label) for label in np.unique(query_labels).tolist()}
    for label, indices in members.items():
        if not len(indices):
            raise ValueError(f"no item of the gallery is a positive of group {label!r}")
    return relevant_ranks(queries, gallery, [members[label] for label in query_labels.tolist()])


def relevant_ranks(queries: FloatArray, gallery: FloatArray, relevant: Relevant) -> Ranks:
    """Return for each query the ranks of its positives, ascending from 1, where relevance is any relation.

    A tie counts as an error: see `TIE_TOLERANCE`. The cosines of all queries and items are never held at once.

    Args:
        queries: Unit vectors, shape (q, d).
        gallery: Unit vectors, shape (n, d).
        relevant: For each query the indices of its positives in the gallery.

    Raises:
        ValueError: Shapes disagree, there are no queries, a vector is not finite, or a query has no positive.
    """
    if len(queries) != len(relevant):
        raise ValueError("relevance has another length than queries")
    if not len(queries):
        raise ValueError("no queries to rank")
    for name, vectors in (("query", queries), ("gallery item", gallery)):
        if rows := not_finite(vectors):
            raise ValueError(f"cannot rank vectors that are not finite: {name} {', '.join(map(str, rows[:3]))}")
    size = _BLOCK_QUERIES * min(_BLOCK_ITEMS, len(gallery))
    memory = np.empty(size, np.result_type(queries, gallery)), np.empty(size, np.bool_)
    ranks: Ranks = []
    for start in range(0, len(queries), _BLOCK_QUERIES):
        part = slice(start, start + _BLOCK_QUERIES)
        block = _Block(queries[part], gallery, relevant[part])
        for first in range(0, len(gallery), _BLOCK_ITEMS):
            block.count(first, min(first + _BLOCK_ITEMS, len(gallery)), *memory)
        ranks += block.ranks()
    return ranks


def not_finite(vectors: FloatArray) -> list[int]:
    """Return the numbers of the rows of `vectors` (n, d) with an entry that is infinite or no number."""
    found: list[int] = []
    for start in range(0, len(vectors), _PAIRS):
        found += (start + np.flatnonzero(~np.isfinite(vectors[start : start + _PAIRS]).all(axis=1))).tolist()
    return found


class _Block:
    """Some queries, and how many negatives are ranked before each of their positives."""

    def __init__(self, queries: FloatArray, gallery: FloatArray, relevant: Relevant) -> None:
        self._queries, self._gallery = queries, gallery
        sizes = np.array([len(indices) for indices in relevant])
        items = np.fromiter(chain.from_iterable(relevant), np.int64, sizes.sum())
        owners = np.repeat(np.arange(len(sizes)), sizes)
        order = np.lexsort((items, owners))
        items, owners = items[order], owners[order]
        is_new = np.append(True, (np.diff(items) != 0) | (np.diff(owners) != 0))[: len(items)]
        items, owners = items[is_new], owners[is_new]
        self._sizes = np.bincount(owners, minlength=len(sizes))
        if not self._sizes.all():
            raise ValueError("a query has no positive in the gallery")
        if items.min() < 0 or items.max() >= len(gallery):
            raise ValueError(f"a positive is none of the {len(gallery)} items of the gallery")
        cosines = np.concatenate([*self._cosines(owners, items)])
        by_cosine = np.lexsort((-cosines, owners))  # of each query the most similar positive first
        self._thresholds = (cosines[by_cosine] - TIE_TOLERANCE).astype(np.result_type(queries, gallery))
        self._starts = np.append(0, np.cumsum(self._sizes))
        self._before = np.zeros(len(items), np.int64)
        by_item = np.argsort(items, kind="stable")
        self._items, self._owners = items[by_item], owners[by_item]
        self._has_many = np.flatnonzero(self._sizes > _MOST_LEVELS).tolist()

    def _cosines(self, owners: npt.NDArray[np.int64], items: npt.NDArray[np.int64]) -> Iterator[FloatArray]:
        for start in range(0, len(items), _PAIRS):
            part = slice(start, start + _PAIRS)
            left, right = self._queries[owners[part]], self._gallery[items[part]]
            yield np.einsum("pd,pd->p", left, right, dtype=np.float64)

    def count(self, first: int, stop: int, floats: FloatArray, flags: npt.NDArray[np.bool_]) -> None:
        """Count the negatives among the items from `first` to `stop`, with memory for their cosines and comparisons."""
        shape = len(self._queries), stop - first
        cosines = floats[: shape[0] * shape[1]].reshape(shape)
        is_before = flags[: shape[0] * shape[1]].reshape(shape)
        np.matmul(self._queries, self._gallery[first:stop].T, out=cosines)
        low, high = np.searchsorted(self._items, (first, stop))
        cosines[self._owners[low:high], self._items[low:high] - first] = -np.inf
        lowest = self._starts[1:] - 1
        np.greater_equal(cosines, self._thresholds[lowest, None], out=is_before)
        counts = _count_rows(is_before)
        self._before[lowest] += counts
        if not counts[self._sizes > 1].any():
            return
        if counts.sum() <= _FEW * cosines.size:
            self._count_picked(cosines.reshape(-1)[np.flatnonzero(is_before)], counts)
        else:
            self._count_levels(cosines)
        for row in self._has_many:
            self._count_sorted(row, cosines[row, is_before[row]])

    def _count_picked(self, cosines: FloatArray, counts: npt.NDArray[np.int64]) -> None:
        """Count by the cosines that reach the lowest threshold of their query, `counts` of each query, in order."""
        levels = [*self._levels()]
        reached = np.zeros(len(cosines), np.int64)  # how many thresholds of its query, but for the lowest
        for level, rows in levels:
            thresholds = np.full(len(counts), np.inf, self._thresholds.dtype)
            thresholds[rows] = self._thresholds[self._starts[rows] + level - 1]
            reached += cosines >= np.repeat(thresholds, counts)
        width = len(levels) + 1
        reached += np.repeat(np.arange(0, len(counts) * width, width), counts)
        histogram = np.bincount(reached, minlength=len(counts) * width).reshape(len(counts), width)
        at_least = histogram[:, ::-1].cumsum(axis=1)[:, ::-1]
        for level, rows in levels:  # the highest threshold is reached by what reaches all
            self._before[self._starts[rows] + level - 1] += at_least[rows, self._sizes[rows] - level]

    def _count_levels(self, cosines: FloatArray) -> None:
        """Count by passing over all cosines once for each positive."""
        for level, rows in self._levels():
            of_rows = cosines if len(rows) == len(cosines) else cosines[rows]
            positions = self._starts[rows] + level - 1
            self._before[positions] += _count_rows(of_rows >= self._thresholds[positions, None])

    def _levels(self) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
        """Yield 1, 2, ... and the queries that have more positives than that, but no more than `_MOST_LEVELS`."""
        sizes = np.where(self._sizes > _MOST_LEVELS, 0, self._sizes)
        for level in range(1, int(sizes.max())):
            yield level, np.flatnonzero(sizes > level)

    def _count_sorted(self, row: int, cosines: FloatArray) -> None:
        """Count the `cosines` of a query that reach its thresholds, but for the lowest of these."""
        positions = slice(self._starts[row], self._starts[row + 1] - 1)
        below = np.searchsorted(np.sort(cosines), self._thresholds[positions], side="left")
        self._before[positions] += len(cosines) - below

    def ranks(self) -> Ranks:
        """Return the ranks of the positives of each query."""
        places = np.fromiter(chain.from_iterable(map(range, self._sizes.tolist())), np.int64, len(self._before))
        return np.split(self._before + places + 1, self._starts[1:-1])


def _count_rows(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return the number of true entries in each row, shape (rows,): by words, several times as fast as a sum."""
    words = mask.shape[1] // _WORD
    whole = np.ascontiguousarray(mask[:, : words * _WORD]).view(np.uint64)
    counts = np.bitwise_count(whole).sum(axis=1, dtype=np.int64)
    return counts + mask[:, words * _WORD :].sum(axis=1, dtype=np.int64)  # type: ignore[no-any-return]

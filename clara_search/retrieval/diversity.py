"""Answers that do not repeat themselves: copies folded, and rows ordered by what they add to those above."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clara_search.models.base import Embeddings
from clara_search.retrieval.ranked import RankedRows
from clara_search.retrieval.snapshot import Snapshot

NEAR_DUPLICATE = 0.98
"""Rows of one kind and of a like length whose vectors have at least this cosine are the same in another encoding."""
_LIKE_LENGTH = 0.05


def fold_copies(snapshot: Snapshot, rows: RankedRows) -> RankedRows:
    """Keep the best row of each group of copies among ranked rows.

    Copies have the same content and the same times, or nearly the same vector and length.

    Args:
        snapshot: The table.
        rows: Ranked rows, best first.

    Returns:
        The best rows, with the field `copies`: how many of the ranked rows each stands for, itself included.
    """
    kinds, contents, starts, lengths = _facts(snapshot, rows)
    vectors = snapshot.vectors_at(rows.positions)
    kept: list[int] = []
    copies: list[int] = []
    by_content: dict[tuple[str, str, float], int] = {}
    for number in range(len(rows)):
        content = (kinds[number], contents[number], starts[number])
        group = by_content.get(content)
        if group is None and kept:
            alike = (vectors[kept] @ vectors[number] >= NEAR_DUPLICATE) & _like(lengths[kept], lengths[number])
            alike &= np.array([kinds[other] == kinds[number] for other in kept])
            group = int(np.argmax(alike)) if alike.any() else None
        if group is None:
            group = len(kept)
            kept.append(number)
            copies.append(0)
        by_content.setdefault(content, group)
        copies[group] += 1
    return rows.take(kept).with_fields(copies=copies)


def marginal_relevance(vectors: Embeddings, scores: npt.NDArray[np.float64], diversity: float) -> list[int]:
    """Order rows by maximal marginal relevance.

    Args:
        vectors: Unit vectors of the rows, best first, shape (n, dim).
        scores: Their cosines with the query, shape (n,).
        diversity: Weight of a row's highest cosine with the rows above it, from 0 to 1; its score has the rest.

    Returns:
        The numbers of the rows, in the new order; equal values in the old one.
    """
    left = np.ones(len(scores), dtype=bool)
    nearest = np.zeros(len(scores))
    order: list[int] = []
    while left.any():
        relevance = (1 - diversity) * scores - diversity * nearest
        chosen = int(np.argmax(np.where(left, relevance.round(6), -np.inf)))
        similarity = vectors @ vectors[chosen]
        nearest = similarity if not order else np.maximum(nearest, similarity)
        left[chosen] = False
        order.append(chosen)
    return order


def _facts(
    snapshot: Snapshot, rows: RankedRows
) -> tuple[list[str], list[str], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return kind, content hash, start and length of rows; texts have the start and the length 0."""
    columns = snapshot.columns.select(["kind", "content_hash"]).take(rows.positions)
    starts = np.nan_to_num(snapshot.recordings.starts[rows.positions])
    lengths = np.nan_to_num(snapshot.recordings.ends[rows.positions]) - starts
    return columns["kind"].to_pylist(), columns["content_hash"].to_pylist(), starts, lengths


def _like(lengths: npt.NDArray[np.float64], length: float) -> npt.NDArray[np.bool_]:
    return np.abs(lengths - length) <= _LIKE_LENGTH * np.maximum(lengths, length)

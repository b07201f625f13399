"""The search effort of an ANN index: the smallest one that reaches a recall, measured against exact search."""

from __future__ import annotations

import numpy as np

from clara_search.retrieval.ann.base import AnnBackend
from clara_search.retrieval.exact.scan import RowPositions, top_k
from clara_search.retrieval.snapshot import Snapshot

RECALL_K = 10
"""Recall is measured at this many hits."""

_MAX_QUERIES = 256
_SEED = 0
_TIE = 1e-5  # scores this near are equal: two ways to multiply round differently


def sample_queries(snapshot: Snapshot) -> RowPositions:
    """Sample the rows to measure recall with: texts where the table has any, for people search by words.

    Text and audio lie in different parts of the space, and an index that finds the neighbours of recordings can miss
    those of texts.

    Args:
        snapshot: The table.

    Returns:
        Positions of at most 256 rows, ascending; the same in every run.
    """
    texts = np.flatnonzero(snapshot.kind_is("text"))
    pool = texts if len(texts) else np.arange(len(snapshot))
    generator = np.random.default_rng(_SEED)
    return np.sort(generator.choice(pool, size=min(_MAX_QUERIES, len(pool)), replace=False))


def tune(backend: AnnBackend, snapshot: Snapshot, queries: RowPositions, target_recall: float) -> tuple[int, float]:
    """Find the smallest effort that reaches a recall.

    A query is a row of the table: it finds itself, which proves nothing, so it is left out of both results. A row that
    scores as high as the last of the exact result counts as right: which of two equal rows is found decides nothing.

    Args:
        backend: The index over all rows of `snapshot`, in their order.
        snapshot: The table, with its vectors.
        queries: Positions of the rows to search by.
        target_recall: The recall to reach, above 0 and at most 1.

    Returns:
        The effort, the largest where none reaches the target, and recall@10 with it.
    """
    vectors = snapshot.vectors
    k = min(RECALL_K + 1, len(snapshot))
    exact = top_k(vectors[queries], vectors, k, snapshot.order)
    truth = [scores[positions != own] for (positions, scores), own in zip(exact, queries.tolist(), strict=True)]
    effort, recall = 0, 0.0
    for effort in backend.efforts:
        results = zip(*backend.search(vectors[queries], k, effort), truth, queries.tolist(), strict=True)
        shares = [
            min(np.sum(scores[(labels >= 0) & (labels != own)] >= true.min() - _TIE) / len(true), 1.0)
            for scores, labels, true, own in results
            if len(true)
        ]
        recall = float(np.mean(shares)) if shares else 1.0
        if recall >= target_recall:
            break
    return effort, recall

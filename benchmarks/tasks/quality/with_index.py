"""What retrieval loses with an ANN index: recall@k of what the index finds, at each of its search efforts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.report import markdown
from clara_search.metrics.intervals import FloatArray, bootstrap_intervals
from clara_search.retrieval.ann.registry import load_backend

_QUERIES = 1024


def score_index(
    name: str,
    queries: FloatArray,
    gallery: FloatArray,
    relevant: Sequence[Sequence[int]],
    exact_hits: Mapping[int, FloatArray],
) -> list[dict[str, Any]]:
    """Score the rankings of an index over the gallery, and compare them with exact search query by query.

    Args:
        name: of the backend.
        queries: unit vectors, shape (q, dim).
        gallery: unit vectors, shape (n, dim).
        relevant: for each query the numbers of its positives.
        exact_hits: by k, whether exact search finds a positive of each query among the first k, shape (q,).

    Returns:
        For some efforts, ascending, recall@k by k, and the loss against exact search with its 95 % interval.
    """
    backend = load_backend(name).build(np.ascontiguousarray(gallery, dtype=np.float32))
    most = min(max(exact_hits), len(gallery))
    scored = []
    for effort in some_efforts(backend.efforts):
        hits = {k: np.zeros(len(queries)) for k in exact_hits}
        for start in range(0, len(queries), _QUERIES):
            part = np.ascontiguousarray(queries[start : start + _QUERIES], dtype=np.float32)
            _, labels = backend.search(part, most, effort)
            for row, found in enumerate(labels, start=start):
                is_right = np.isin(found, np.asarray(relevant[row]))
                for k in exact_hits:
                    hits[k][row] = float(is_right[:k].any())
        losses = np.stack([exact_hits[k] - hits[k] for k in exact_hits], axis=1)
        intervals = bootstrap_intervals(losses.astype(np.float64), 1000, 0)
        scored.append(
            {
                "effort": effort,
                "recall": {k: float(values.mean()) for k, values in hits.items()},
                "loss": {k: float(loss) for k, loss in zip(exact_hits, losses.mean(axis=0), strict=True)},
                "loss_interval": dict(zip(exact_hits, intervals, strict=True)),
            }
        )
    return scored


def some_efforts(efforts: Sequence[int]) -> list[int]:
    """Return the first, second, fourth, eighth ... and the last of the efforts of a backend."""
    places = [*((1 << bit) - 1 for bit in range(len(efforts).bit_length())), len(efforts) - 1]
    return [efforts[place] for place in sorted({place for place in places if place < len(efforts)})]


def index_table(name: str, scored: dict[str, list[dict[str, Any]]]) -> str:
    """Return the scores of an index by direction as a Markdown table, in percent, with what they lose."""
    ks = list(next(iter(scored.values()))[0]["recall"])
    rows = []
    for direction, by_effort in scored.items():
        for facts in by_effort:
            cells = []
            for k in ks:
                low, high = facts["loss_interval"][k]
                lost = f"{100 * facts['loss'][k]:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
                cells.append(f"{100 * facts['recall'][k]:.1f} ({lost})")
            rows.append([direction.replace("_", " "), str(facts["effort"]), *cells])
    return markdown([f"with {name}", "effort", *(f"R@{k} (loss [95 % interval])" for k in ks)], rows)

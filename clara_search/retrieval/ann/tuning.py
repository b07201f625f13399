"""The search effort of an ANN index: for each kind of query the smallest one that reaches a recall.

Text and audio lie in different parts of the space: an index that finds the neighbours of recordings can miss those of
texts. So each kind of query is tuned and measured by itself. Half of its queries choose the effort, whose recall is
measured with the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Annotated, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from clara_search.config import Between, check_bounds
from clara_search.errors import ClaraError
from clara_search.metrics.intervals import bootstrap_intervals
from clara_search.models.base import Embeddings
from clara_search.retrieval.ann.base import AnnBackend
from clara_search.retrieval.exact.scan import top_k
from clara_search.retrieval.snapshot import Snapshot

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

Direction = Literal["text", "audio"]
"""What a query was made of."""
Encode = Callable[[Sequence[str]], Embeddings]
"""Embeds texts: to unit vectors, shape (n, dim)."""

MAX_QUERIES = 800
"""Of a kind: 400 choose the effort, 400 measure it."""

_TIMED_QUERIES = 16
_SEED = 0
_SAME = 1 - 1e-5
"""A row that scores more is the one that the query was made of, or equal to it."""
_TIE = 1e-5
"""Scores this near are equal: two ways to multiply round differently."""
_SPARE = 6  # rows, for those that are equal to the query


@dataclass(frozen=True)
class TuningQueries:
    """Queries of one kind.

    Attributes:
        vectors: Unit vectors, shape (q, dim), in random order.
        source: What they were made of, for people.
    """

    vectors: Embeddings
    source: str


@dataclass(frozen=True)
class CurvePoint:
    """What an effort costs and gives.

    Attributes:
        effort: One of the backend's efforts.
        recall: recall@k of the queries that choose the effort.
        latency_ms: Median time of a single query in the index alone, in milliseconds.
    """

    effort: int
    recall: Annotated[float, Between(0, 1)]
    latency_ms: float

    def __post_init__(self) -> None:
        check_bounds(self)


@dataclass(frozen=True)
class Tuning:
    """The effort for one kind of query.

    Attributes:
        effort: The smallest effort that reaches the target, or the largest one.
        recall: Its recall@k, measured on queries that did not choose it.
        interval: The 95 % bootstrap interval of `recall`.
        queries: Number of these queries.
        source: What they were made of.
        curve: The efforts that were tried, ascending.
    """

    effort: int
    recall: Annotated[float, Between(0, 1)]
    interval: Annotated[tuple[float, ...], Between(0, 1)]
    queries: int
    source: str
    curve: tuple[CurvePoint, ...]

    def __post_init__(self) -> None:
        check_bounds(self)


def sample_queries(
    snapshot: Snapshot, encode: Encode | None, texts: Sequence[str] | None = None
) -> dict[Direction, TuningQueries]:
    """Choose the queries to tune by, the same in every run.

    Args:
        snapshot: The table, with its vectors.
        encode: The encoder of the table; None: of texts, only rows are queries.
        texts: Texts that people search for; None: the texts of the table, embedded without its rows of kind "text"
            where there are none.

    Returns:
        Queries of each kind. "audio" needs rows of that kind, "text" needs `encode` or such rows.
    """
    queries: dict[Direction, TuningQueries] = {}
    is_text = snapshot.kind_is("text")
    if texts is not None and encode is not None:
        queries["text"] = TuningQueries(encode(_sample(list(dict.fromkeys(texts)))), "given texts")
    elif is_text.any():
        queries["text"] = TuningQueries(snapshot.vectors[_sample(np.flatnonzero(is_text).tolist())], "rows of texts")
    elif encode is not None and (captions := _captions(snapshot)):
        try:
            queries["text"] = TuningQueries(encode(_sample(captions)), "texts of recordings")
        except ClaraError as error:  # the model cannot be had
            _log.warning("searches by texts are not tuned: %s", error)
    if not is_text.all():
        rows = _sample(np.flatnonzero(~is_text).tolist())
        queries["audio"] = TuningQueries(snapshot.vectors[rows], "rows of recordings")
    return queries


def _captions(snapshot: Snapshot) -> list[str]:
    texts = snapshot.columns["text"].unique().to_pylist()
    return [text for text in texts if text and not text.isspace()]


def _sample(values: list[_T]) -> list[_T]:
    order = np.random.default_rng(_SEED).permutation(len(values))[:MAX_QUERIES]
    return [values[number] for number in order]


def tune(backend: AnnBackend, snapshot: Snapshot, queries: TuningQueries, k: int, target_recall: float) -> Tuning:
    """Find the smallest effort that reaches a recall.

    Rows equal to the query, as the one that it was made of, are left out: that they are found proves nothing. A row
    that scores as high as the last of the exact result counts as right: which of two equal rows is found decides
    nothing. The recall has to be above the target by its standard error, so that other queries reach it as well.

    Args:
        backend: The index over all rows of `snapshot`, in their order.
        snapshot: The table, with its vectors.
        queries: Queries of one kind; of a single one, it both chooses and measures.
        k: Number of hits that recall counts.
        target_recall: The recall to reach, above 0 and at most 1.

    Returns:
        The effort, and what it was measured by.
    """
    half = max(len(queries.vectors) // 2, 1)
    choosing = _Trial(backend, snapshot, queries.vectors[:half], k)
    measuring = _Trial(backend, snapshot, queries.vectors[half:] if len(queries.vectors) > 1 else queries.vectors, k)
    curve: dict[int, CurvePoint] = {}

    def reaches(effort: int) -> bool:
        shares = choosing.recalls(effort)
        recall = float(shares.mean())
        curve[effort] = CurvePoint(effort, recall, choosing.latency_ms(effort))
        error = float(shares.std()) / len(shares) ** 0.5
        return bool(recall >= min(target_recall + error, 1.0))

    effort = _first(backend.efforts, reaches)
    shares = measuring.recalls(effort)
    interval = bootstrap_intervals(shares[:, np.newaxis], num_resamples=1000, seed=_SEED)[0]
    points = tuple(curve[tried] for tried in sorted(curve))
    return Tuning(effort, float(shares.mean()), interval, len(shares), queries.source, points)


def _first(efforts: Sequence[int], reaches: Callable[[int], bool]) -> int:
    """Return the smallest effort that reaches, by doubling and then halving steps; the largest one where none does."""
    low, high = -1, 0
    while high < len(efforts) - 1 and not reaches(efforts[high]):
        low, high = high, min(2 * high + 1, len(efforts) - 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(efforts[middle]) else (middle, high)
    return efforts[high]


class _Trial:
    """Queries with their exact results, to measure the recall of an index by."""

    def __init__(self, backend: AnnBackend, snapshot: Snapshot, queries: Embeddings, k: int):
        self._backend, self._queries = backend, np.ascontiguousarray(queries)
        self._depth = min(k + _SPARE, len(snapshot))
        exact = top_k(self._queries, snapshot.vectors, self._depth, snapshot.order)
        self._truth = [scores[scores <= _SAME][:k] for _, scores in exact]

    def recalls(self, effort: int) -> npt.NDArray[np.float64]:
        """Return the recall@k of each query that has other rows than its own."""
        results = zip(*self._backend.search(self._queries, self._depth, effort), self._truth, strict=True)
        shares = [
            min(np.sum((labels >= 0) & (scores <= _SAME) & (scores >= true.min() - _TIE)) / len(true), 1.0)
            for scores, labels, true in results
            if len(true)
        ]
        return np.array(shares or [1.0])

    def latency_ms(self, effort: int) -> float:
        """Return the median time of a single query in milliseconds."""
        times = []
        for query in self._queries[:_TIMED_QUERIES, np.newaxis]:
            start = perf_counter()
            self._backend.search(query, self._depth, effort)
            times.append(perf_counter() - start)
        return float(np.median(times)) * 1000

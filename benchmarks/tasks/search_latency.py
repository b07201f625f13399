"""Latency of exact search in a warm process, without encoding, compared with LanceDB's flat scan of the table."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa

from benchmarks.report import markdown, out_option, publish
from clara_search.audio.waveform import Waveform
from clara_search.models.base import Embeddings
from clara_search.models.recorded import RecordedModel
from clara_search.retrieval.hits import Hits
from clara_search.retrieval.index import Index
from clara_search.retrieval.options.registry import make_filters
from clara_search.retrieval.pipeline import answer
from clara_search.retrieval.query import Query
from clara_search.retrieval.snapshot import Snapshot
from clara_search.store.database import Database
from clara_search.store.schema import TableInfo
from clara_search.store.table import Table, row_id

Way = Callable[[Embeddings], object]
"""A way to find the ten best rows of a query, shape (1, dim)."""

_CLUSTERS = 200
_SPREAD = 0.8
_WARM_UP = 5


@click.command()
@click.option("--rows", type=click.IntRange(min=1), default=10_000, show_default=True, help="Rows of the table.")
@click.option("--dim", type=click.IntRange(min=1), default=512, show_default=True, help="Dimensions of a vector.")
@click.option("--queries", type=click.IntRange(min=1), default=200, show_default=True, help="Timed queries.")
@click.option("--seed", type=int, default=0, show_default=True)
@out_option
def search(rows: int, dim: int, queries: int, seed: int, out: Path | None) -> None:
    """Time exact search, a plain scan on one thread, and LanceDB's flat scan.

    Each query reads the ten best rows, with all columns, of a table of clustered random vectors; the ways to do it take
    turns. Moments are joined, and probabilities given where the query is a text.
    """
    vectors = clustered(rows + queries, dim, seed)
    query_vectors = vectors[rows:]
    with tempfile.TemporaryDirectory() as folder:
        table = fill(Database(folder, create=True), vectors[:rows])
        index = Index(table, encoder=RandomTexts(dim))
        lance = table.connection.lance.open_table(table.name)
        columns = [name for name in table.schema.names if name != "vector"]
        snapshot = Snapshot.read(table, vectors=True)
        ways: dict[str, Way] = {
            "exact search": lambda query: index.search_vectors(query, exact=True),
            "the same with probabilities": lambda query: search_text(index, query),
            "a scan on one thread": lambda query: scan(snapshot, query),
            "LanceDB flat scan": lambda query: flat_scan(lance, columns, query),
        }
        latencies = time_queries(ways, query_vectors)
    summary = {
        name: {"p50": float(np.percentile(times, 50)), "p95": float(np.percentile(times, 95))}
        for name, times in latencies.items()
    }
    result: dict[str, Any] = {
        "benchmark": "search",
        "rows": rows,
        "dim": dim,
        "queries": queries,
        "seed": seed,
        "latency_ms": summary,
    }
    cells = [[name, f"{latency['p50']:.2f}", f"{latency['p95']:.2f}"] for name, latency in summary.items()]
    publish(result, markdown([f"{rows} rows of {dim}, k = 10", "p50 ms", "p95 ms"], cells), out)


def clustered(n: int, dim: int, seed: int) -> Embeddings:
    """Return `n` unit vectors in random clusters, shape (n, dim), distributed like embeddings."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(_CLUSTERS, dim))
    vectors = centres[generator.integers(0, _CLUSTERS, n)] + _SPREAD * generator.normal(size=(n, dim))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def fill(database: Database, vectors: Embeddings) -> Table:
    """Return a new table of `vectors`, shape (n, dim), as windows of recordings."""
    n, dim = vectors.shape
    table = database.create_table("corpus", TableInfo(RecordedModel("random", "0" * 64), dim, window_s=10.0, hop_s=5.0))
    uris = [f"/recordings/{number:08d}.wav" for number in range(n)]
    columns = {
        "id": [row_id(uri, 0.0, 10.0) for uri in uris],
        "kind": ["audio"] * n,
        "uri": uris,
        "start_s": [0.0] * n,
        "end_s": [10.0] * n,
        "text": [f"recording number {number}" for number in range(n)],
        "language": ["en"] * n,
        "content_hash": uris,
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim),
    }
    table.upsert(pa.table(columns))
    return table


def flat_scan(lance: Any, columns: list[str], query: Embeddings) -> list[dict[str, Any]]:
    """Return the ten nearest rows by LanceDB itself, without their vectors."""
    query_builder = lance.search(query[0]).distance_type("cosine").select([*columns, "_distance"]).limit(10)
    return query_builder.to_list()  # type: ignore[no-any-return]


def search_text(index: Index, query: Embeddings) -> list[Hits]:
    """Return the ten best hits of a vector that stands for a text."""
    queries = [Query(query[0], "text", "recording number")]
    return answer(index._searchers, queries, 10, 0, exact=True, filters=make_filters({}))


def scan(snapshot: Snapshot, query: Embeddings) -> list[dict[str, Any]]:
    """Return the ten nearest rows by one product of all vectors on one thread, and a partition of the scores."""
    scores = np.vecdot(snapshot.vectors, query[0])
    best = np.flatnonzero(scores >= np.partition(scores, -10)[-10])
    return snapshot.rows(best[np.argsort(-scores[best])][:10])


class RandomTexts:
    """An encoder that embeds each text at random, to calibrate a table of random vectors."""

    name = "random"
    fingerprint = "0" * 64
    sample_rate = 16_000

    def __init__(self, dim: int):
        self.dim = dim

    def encode_text(self, texts: Sequence[str], language: str | None = None) -> Embeddings:
        """Return a unit vector for each text, shape (n, dim)."""
        return clustered(len(texts), self.dim, seed=len(texts))

    def encode_audio(self, waveforms: Sequence[Waveform]) -> Embeddings:
        """Return a unit vector for each waveform, shape (n, dim)."""
        return clustered(len(waveforms), self.dim, seed=0)


def time_queries(ways: Mapping[str, Way], queries: Embeddings) -> dict[str, list[float]]:
    """Return the milliseconds of each query in each way, which take turns, after some queries to warm up."""
    for query in queries[:_WARM_UP]:
        for run in ways.values():
            run(query[np.newaxis])
    latencies: dict[str, list[float]] = {name: [] for name in ways}
    for query in queries:
        for name, run in ways.items():
            started = time.perf_counter()
            run(query[np.newaxis])
            latencies[name].append((time.perf_counter() - started) * 1000)
    return latencies

"""Latency of exact search in a warm process, without encoding, compared with LanceDB's flat scan of the table."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa

from benchmarks.report import markdown, out_option, publish
from clara_search.models.base import Embeddings
from clara_search.models.recorded import RecordedModel
from clara_search.retrieval.index import Index
from clara_search.store.database import Database
from clara_search.store.schema import TableInfo
from clara_search.store.table import Table, row_id

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
    """Time exact search and LanceDB's flat scan.

    Each query reads the ten best rows, with all columns, of a table of clustered random vectors.
    """
    vectors = clustered(rows + queries, dim, seed)
    query_vectors = vectors[rows:]
    with tempfile.TemporaryDirectory() as folder:
        table = fill(Database(folder, create=True), vectors[:rows])
        index = Index(table)
        lance = table.connection.lance.open_table(table.name)
        columns = [name for name in table.schema.names if name != "vector"]
        latencies = {
            "exact search": time_queries(lambda query: index.search_vectors(query, exact=True), query_vectors),
            "LanceDB flat scan": time_queries(lambda query: flat_scan(lance, columns, query), query_vectors),
        }
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


def time_queries(search_one: Callable[[Embeddings], object], queries: Embeddings) -> list[float]:
    """Return the milliseconds of each query, after some queries to warm up."""
    for query in queries[:_WARM_UP]:
        search_one(query[np.newaxis])
    latencies = []
    for query in queries:
        started = time.perf_counter()
        search_one(query[np.newaxis])
        latencies.append((time.perf_counter() - started) * 1000)
    return latencies

"""An ANN index tuned to targets of recall: what other queries reach, and what it costs beside FAISS."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

from benchmarks.report import markdown, out_option, publish
from benchmarks.tasks.search_latency import RandomTexts, fill, time_queries
from clara_search.metrics.intervals import bootstrap_intervals
from clara_search.models.base import Embeddings
from clara_search.retrieval.ann import index as ann
from clara_search.retrieval.ann import tuning
from clara_search.retrieval.ann.base import AnnBackend
from clara_search.retrieval.ann.faiss_search import import_faiss
from clara_search.retrieval.exact.scan import top_k
from clara_search.retrieval.index import Index
from clara_search.retrieval.searcher import Searcher
from clara_search.retrieval.snapshot import Snapshot
from clara_search.store.database import Database

K = 10
_ROWS_PER_CLUSTER = 1000
_SPREAD, _GAP = 1.0, 0.7
_PER_ROW = 0.8  # how far a caption is from the recording that it describes
_BLOCK = 100_000


class Corpus(NamedTuple):
    """Recordings, and captions of some of them, which lie apart from all recordings: queries out of distribution."""

    recordings: Embeddings
    captions: Embeddings
    other_captions: Embeddings
    other_recordings: Embeddings


@click.command("ann")
@click.option("--rows", type=click.IntRange(min=1000), default=100_000, show_default=True)
@click.option("--dim", type=click.IntRange(min=2), default=512, show_default=True)
@click.option(
    "--queries", type=click.IntRange(min=10), default=1000, show_default=True, help="Unseen ones, of each kind."
)
@click.option("--timed", type=click.IntRange(min=1), default=200, show_default=True, help="Queries that are timed.")
@click.option(
    "--target", "targets", type=click.FloatRange(0, 1), multiple=True, default=(0.9, 0.95, 0.99), show_default=True
)
@click.option("--seed", type=int, default=0, show_default=True)
@out_option
def ann_recall(
    rows: int, dim: int, queries: int, timed: int, targets: tuple[float, ...], seed: int, out: Path | None
) -> None:
    """Build an index of clustered random vectors, tune it to targets of recall, and measure what it reaches.

    Texts lie apart from recordings, as those of contrastive models do. Recall is that of queries that tuning has not
    seen. Single queries are timed by themselves, in turn with FAISS's own call at the same effort and exact search.
    """
    corpus = gapped(rows, dim, queries, seed)
    with tempfile.TemporaryDirectory() as folder:
        table = fill(Database(folder, create=True), corpus.recordings)
        started = time.perf_counter()
        status = ann.build(table, "ivf", targets[0], K, encode=lambda texts: corpus.captions[: len(texts)])
        build_s = time.perf_counter() - started
        peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        index_bytes = sum(path.stat().st_size for path in (Path(folder) / "_ann").rglob("*"))
        snapshot = Snapshot.read(table, vectors=True)
        loaded = ann.load(table)
        assert loaded is not None
        tuned_with = tuning.sample_queries(snapshot, lambda texts: corpus.captions[: len(texts)])
        unseen = {"text": corpus.other_captions, "audio": corpus.other_recordings}
        points = [
            {
                "direction": direction,
                "target": target,
                **measure(loaded.backend, snapshot, tuned_with[direction], unseen[direction], target),
            }
            for direction in tuned_with
            for target in targets
        ]
        faiss_build_s = _seconds(lambda: build_faiss(corpus.recordings, status.meta.params["nlist"]))
        index, searcher = Index(table, encoder=RandomTexts(dim)), Searcher(table)
        effort = status.meta.effort(None)
        latencies = time_queries(
            {
                "this index, ten hits": lambda query: index.search_vectors(query, K),
                "this index, ids and scores": lambda query: searcher.search(searcher.snapshot(), query, K),
                "FAISS": lambda query: loaded.backend.search(query, K, effort),
                "exact search, ten hits": lambda query: index.search_vectors(query, K, exact=True),
            },
            corpus.other_captions[:timed],
        )
    result: dict[str, Any] = {
        "benchmark": "ann",
        "rows": rows,
        "dim": dim,
        "seed": seed,
        "params": status.meta.params,
        "build_s": build_s,
        "faiss_build_s": faiss_build_s,
        "peak_gib": peak_gib,
        "index_mib": index_bytes / 2**20,
        "recall": points,
        "latency_ms": {
            name: {"p50": float(np.percentile(times, 50)), "p95": float(np.percentile(times, 95))}
            for name, times in latencies.items()
        },
    }
    publish(result, _table(result), out)


def gapped(rows: int, dim: int, queries: int, seed: int) -> Corpus:
    """Return unit vectors of `rows` recordings in clusters, and captions of recordings, a constant vector apart.

    Args:
        rows: Number of recordings.
        dim: Length of a vector.
        queries: Number of captions and recordings that are no rows.
        seed: Seed of all.
    """
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(max(rows // _ROWS_PER_CLUSTER, 1), dim)).astype(np.float32)
    gap = generator.normal(size=dim).astype(np.float32) * np.float32(_GAP)

    def drawn(count: int) -> Embeddings:
        noise = generator.normal(size=(count, dim)).astype(np.float32)
        return np.asarray(centres[generator.integers(0, len(centres), count)] + np.float32(_SPREAD) * noise)

    def captions_of(recordings: Embeddings) -> Embeddings:
        noise = generator.normal(size=recordings.shape).astype(np.float32)
        return _unit(recordings + np.float32(_PER_ROW) * noise - gap)

    recordings = np.empty((rows, dim), dtype=np.float32)
    for start in range(0, rows, _BLOCK):
        recordings[start : start + _BLOCK] = drawn(min(_BLOCK, rows - start))
    described = recordings[generator.integers(0, rows, tuning.MAX_QUERIES + queries)]
    captions = captions_of(described)
    for start in range(0, rows, _BLOCK):
        recordings[start : start + _BLOCK] = _unit(recordings[start : start + _BLOCK] + gap)
    others = _unit(drawn(queries) + gap)
    return Corpus(recordings, captions[: tuning.MAX_QUERIES], captions[tuning.MAX_QUERIES :], others)


def _unit(vectors: Embeddings) -> Embeddings:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def measure(
    backend: AnnBackend, snapshot: Snapshot, queries: tuning.TuningQueries, unseen: Embeddings, target: float
) -> dict[str, Any]:
    """Tune an index by `queries` to a target, and return its effort and the recall@10 of `unseen` queries (q, dim)."""
    tuned = tuning.tune(backend, snapshot, queries, K, target)
    truth = top_k(unseen, snapshot.vectors, K, snapshot.order)
    efforts = list(backend.efforts)

    def recall(effort: int) -> np.ndarray:
        _, labels = backend.search(unseen, K, effort)
        return np.array([np.isin(best, row).mean() for (best, _), row in zip(truth, labels, strict=True)])

    reached = recall(tuned.effort)
    before = efforts[max(efforts.index(tuned.effort) - 1, 0)]
    return {
        "effort": tuned.effort,
        "claimed": tuned.recall,
        "claimed_interval": tuned.interval,
        "recall": float(reached.mean()),
        "interval": bootstrap_intervals(reached[:, np.newaxis], num_resamples=1000, seed=0)[0],
        "recall_of_the_effort_before": float(recall(before).mean()),
    }


def build_faiss(vectors: Embeddings, nlist: int) -> Any:
    """Return the index that FAISS builds by its defaults, of as many lists."""
    faiss = import_faiss()
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(vectors.shape[1]), vectors.shape[1], nlist, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    return index


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _table(result: dict[str, Any]) -> str:
    recalls = [
        [
            f"{point['direction']}, target {point['target']}",
            str(point["effort"]),
            f"{point['claimed']:.3f}",
            f"{point['recall']:.3f} [{point['interval'][0]:.3f}, {point['interval'][1]:.3f}]",
            f"{point['recall_of_the_effort_before']:.3f}",
        ]
        for point in result["recall"]
    ]
    latencies = [[name, f"{ms['p50']:.2f}", f"{ms['p95']:.2f}"] for name, ms in result["latency_ms"].items()]
    return "\n\n".join(
        (
            f"{result['rows']:,} rows of {result['dim']}: built and tuned in {result['build_s']:.1f} s, "
            f"{result['peak_gib']:.1f} GiB at most, {result['index_mib']:.0f} MiB on disk; "
            f"FAISS by its defaults in {result['faiss_build_s']:.1f} s",
            markdown(["queries", "lists visited", "claimed", "recall@10, unseen", "one list fewer"], recalls),
            markdown(["one text at a time, at the first target", "p50 ms", "p95 ms"], latencies),
        )
    )

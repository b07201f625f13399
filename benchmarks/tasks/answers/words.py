"""What transcripts add: recordings found by vectors, by the words of their transcripts, and by both; and the cost."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa

from benchmarks.examples import data_option, model_option, select, where_option
from benchmarks.report import markdown, out_option, publish
from benchmarks.tasks.search_latency import RandomTexts, clustered, fill, time_queries
from clara_search.datasets.example import Example
from clara_search.datasets.recordings import load_recording
from clara_search.metrics.intervals import bootstrap_intervals
from clara_search.metrics.retrieval import chance_recall
from clara_search.models.base import Embeddings, Encoder
from clara_search.models.registry import load_encoder
from clara_search.retrieval.index import Index
from clara_search.retrieval.options.registry import make_filters
from clara_search.retrieval.pipeline import answer
from clara_search.retrieval.query import Query
from clara_search.store.database import Database
from clara_search.text.normalize import normalize_text
from indexer.pipeline import IndexResult, index
from indexer.sources.memory import Recording
from indexer.transcribe.model import Transcriber, load_transcriber

WAYS = {"vectors": 0.0, "both, words 0.3": 0.3, "both": 0.5, "both, words 0.7": 0.7, "words": 1.0}
"""Weights of the words."""

_RATE = 16_000
_GAP_S = 0.5
_ROWS, _DIM, _TIMED = 10_000, 512, 100
_VOCABULARY, _WORDS_A_TEXT = 5_000, 12
_RESAMPLES = 1000


@click.command()
@data_option
@click.option("--transcriber", required=True, metavar="FOLDER|NAME", help="The Whisper model, as of `index`.")
@click.option("--split", default="all", show_default=True, help="Of the bundled model's split by texts.")
@where_option
@click.option("--clips", type=click.IntRange(min=1), default=1000, show_default=True, help="Most recordings.")
@model_option
@out_option
def words(
    data: str, transcriber: str, split: str, where: tuple[str, ...], clips: int, model: str, out: Path | None
) -> None:
    """Measure search by vectors, by the words of transcripts, and by both, on recordings of known texts.

    The recordings are indexed without their texts; each text is a query, for which every recording of it is right. Also
    timed: the transcriber, on the recordings and on all of them as one, and queries of a table of 10,000 rows.
    """
    encoder, whisper = load_encoder(model), load_transcriber(transcriber)
    examples = list(islice((example for example in select(data, split, where) if example.text), clips))
    recordings = [Recording(example.key, load_recording(example, _RATE), _RATE) for example in examples]
    with tempfile.TemporaryDirectory() as folder:
        database = Database(folder, create=True)
        indexed = index(recordings, database, encoder, transcribe=whisper)
        scores = score(Index(database.table(), encoder=encoder), examples)
        alone = _transcribe_as_one(recordings, database, encoder, whisper)
    latency = {name: float(np.percentile(times, 50)) for name, times in _time_queries().items()}
    speed = {"one by one": _speed(indexed), "as one recording": _speed(alone)}
    result: dict[str, Any] = {
        "benchmark": "words",
        "transcriber": whisper.label,
        "recordings": len(examples),
        "transcribed": indexed.transcribed,
        "silent": indexed.silent,
        "audio_s": indexed.audio_s,
        "times_real_time": speed,
        "recall": scores,
        "p50_ms": latency,
    }
    cells = [
        [name, *(f"{value:.3f} [{low:.3f}, {high:.3f}]" for value, low, high in row)] for name, row in scores.items()
    ]
    cells += [[f"transcription, {name}", f"{value:.1f} x real time", ""] for name, value in speed.items()]
    cells += [[f"{_ROWS:,} rows, {name}, p50", f"{value:.1f} ms", ""] for name, value in latency.items()]
    chance = chance_recall(1, len(examples), 10)
    publish(result, markdown([f"{len(examples)} recordings", "R@1", f"R@10 (chance {chance:.3f})"], cells), out)


def score(index: Index, examples: Sequence[Example]) -> dict[str, list[tuple[float, float, float]]]:
    """Return R@1 and R@10 of each way, each with its interval.

    Args:
        index: the recordings, by the keys of the examples.
        examples: the recordings, with their texts.
    """
    wanted: dict[str, set[str]] = {}
    for example in examples:
        wanted.setdefault(normalize_text(example.text), set()).add(example.key)
    queries = {normalize_text(example.text): example.text for example in examples}
    scores = {}
    for name, weight in WAYS.items():
        answers = [index.search(query, k=10, text_weight=weight) for query in queries.values()]
        right = [[hit.uri in wanted[text] for hit in hits] for text, hits in zip(queries, answers, strict=True)]
        recalls = np.array([[any(hits[:1]), any(hits)] for hits in right], dtype=np.float64)
        intervals = bootstrap_intervals(recalls, _RESAMPLES, seed=0)
        scores[name] = [
            (float(mean), *interval) for mean, interval in zip(recalls.mean(axis=0), intervals, strict=True)
        ]
    return scores


def _transcribe_as_one(
    recordings: Sequence[Recording], database: Database, encoder: Encoder, transcriber: Transcriber
) -> IndexResult:
    gap = np.zeros(round(_GAP_S * _RATE), np.float32)
    joined = np.concatenate([part for recording in recordings for part in (recording.waveform, gap)])
    return index([Recording("all", joined, _RATE)], database, encoder, "joined", transcribe=transcriber)


def _speed(indexed: IndexResult) -> float:
    """Return the seconds of audio that were transcribed in a second."""
    return indexed.audio_s / indexed.stages["transcribe"]["worked_s"]


def _time_queries() -> dict[str, list[float]]:
    """Return the milliseconds of queries of three random words, by way, in a table of random texts and vectors."""
    generator = np.random.default_rng(0)
    vectors = clustered(_ROWS + _TIMED, _DIM, seed=0)

    def text(count: int) -> str:
        return " ".join(
            f"word{number}" for number in np.minimum(generator.pareto(0.8, count) * 4, _VOCABULARY).astype(int)
        )

    with tempfile.TemporaryDirectory() as folder:
        table = fill(Database(folder, create=True), vectors[:_ROWS])
        rows = table.scan(table.schema.names)
        texts = pa.array([text(_WORDS_A_TEXT) for _ in range(_ROWS)])
        table.upsert(rows.set_column(rows.schema.get_field_index("text"), "text", texts))
        table.compact()
        opened = Index(table, encoder=RandomTexts(_DIM))
        asked = iter([text(3) for _ in range(10 * _TIMED)])

        def ask(vector: Embeddings, weight: float | None) -> object:
            query = Query(vector[0], None, words=next(asked))
            return answer(opened._searchers, [query], 10, 0, exact=True, filters=make_filters({"text_weight": weight}))

        ways = {"vectors": None, "both": 0.5, "words": 1.0}
        return time_queries(
            {name: lambda vector, weight=weight: ask(vector, weight) for name, weight in ways.items()},  # type: ignore[misc]
            vectors[_ROWS:],
        )

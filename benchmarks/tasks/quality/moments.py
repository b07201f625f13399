"""Moment retrieval: which part of a long recording a text is about, beside the guess that it is about all of it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.examples import dataset_copy, missing_option, model_option, require_complete
from benchmarks.report import markdown, out_option, publish
from benchmarks.report.run_facts import contamination_remark
from clara_search.audio.windows import DEFAULT_HOP_S, DEFAULT_WINDOW_S
from clara_search.datasets.dataset import Dataset
from clara_search.datasets.layouts import read_dataset
from clara_search.errors import FormatError, QueryError
from clara_search.metrics.moments import MomentScores, Span, score_moments
from clara_search.models.base import Encoder
from clara_search.models.registry import load_encoder
from clara_search.models.training_sources import training_sources
from clara_search.retrieval.index import Index
from clara_search.store.database import Database
from trainer.evaluation.contamination import contamination

MOMENTS_COLUMN = "moments"
_MOST = 10
"""Moments that are asked for, of one recording."""


@dataclass(frozen=True)
class MomentQuery:
    """A text about a part of a recording.

    Attributes:
        audio: the recording.
        text: the text.
        spans: what it is about.
    """

    audio: Path
    text: str
    spans: list[Span]


@click.command()
@click.option(
    "--data", required=True, metavar="NAME:DIR", help='A copy of a dataset with moments, such as "castella:DIR".'
)
@model_option
@click.option("--split", type=click.Choice(["test", "valid", "train", "all"]), default="test", show_default=True)
@click.option("--window", "window_s", type=float, default=DEFAULT_WINDOW_S, show_default=True, help="Seconds.")
@click.option("--hop", "hop_s", type=float, default=DEFAULT_HOP_S, show_default=True, help="Seconds.")
@missing_option
@out_option
def moments(
    data: str, model: str, split: str, window_s: float, hop_s: float, allow_missing: bool, out: Path | None
) -> None:
    """Score the moments that a search within a recording gives, by R1@0.5, R1@0.7 and mAP over IoU.

    The recordings are indexed, and each text is searched for in its own recording. Beside it stands the guess that a
    text is about the whole recording.
    """
    dataset, root = dataset_copy(data)
    queries, missing = read_queries(dataset, root, split)
    require_complete(missing, allow_missing)
    if not queries:
        raise QueryError(f"{data}: no recording of the split {split!r} is there")
    encoder = load_encoder(model)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        index, failures = index_recordings(sorted({query.audio for query in queries}), folder, encoder, window_s, hop_s)
        require_complete(failures, allow_missing)
        lengths = lengths_s(index)
        queries = [query for query in queries if str(query.audio) in lengths]
        found = [find(index, query, lengths[str(query.audio)]) for query in queries]
    true = [query.spans for query in queries]
    scores = {
        "search": score_moments(found, true),
        "whole recording": score_moments([[(0.0, lengths[str(query.audio)])] for query in queries], true),
    }
    failures = [*missing, *failures]
    trained = contamination([dataset.name] * len(queries), training_sources(model))
    result = {
        "benchmark": "moments",
        "model": encoder.name,
        "fingerprint": encoder.fingerprint,
        "data": data,
        "split": split,
        "recordings": len(lengths),
        "windows": {"window_s": window_s, "hop_s": hop_s},
        "complete": not failures,
        "failures": failures,
        "contamination": trained,
        "scores": {name: x.as_dict() for name, x in scores.items()},
        "seconds": {"all": time.perf_counter() - started},
    }
    headings = ["moments of", "queries", "R1@0.5", "R1@0.7", "mAP, IoU 0.5 to 0.95"]
    remarks = [contamination_remark(trained), *([f"INCOMPLETE: {len(failures)} missing"] if failures else [])]
    table = markdown(headings, [_row(name, x) for name, x in scores.items()])
    publish(result, f"{table}\n\nIn percent, with 95 % intervals; {'; '.join(remarks)}.", out)


def read_queries(dataset: Dataset, root: Path, split: str) -> tuple[list[MomentQuery], list[str]]:
    """Return the texts of a split, and a line for each recording that is missing.

    Raises:
        FormatError: the dataset has no moments, or one cannot be read.
        SourceError: the folder has another layout.
    """
    if MOMENTS_COLUMN not in dataset.columns:
        raise FormatError(f"{dataset.name}: is no dataset with moments")
    queries: list[MomentQuery] = []
    missing: dict[str, None] = {}
    for row in read_dataset(dataset, root):
        if split not in ("all", row.columns.get("split")):
            continue
        if row.audio is None:
            missing[f"{row.name}: there is no such file in {root}"] = None
            continue
        spans = _spans(row.columns.get(MOMENTS_COLUMN, ""), row.name)
        queries.append(MomentQuery(row.audio.absolute(), row.columns["text"], spans))
    return queries, list(missing)


def _spans(text: str, name: str) -> list[Span]:
    """Return the moments in "1.5-3;20-25"."""
    try:
        spans = [(float(start), float(end)) for start, _, end in (part.partition("-") for part in text.split(";"))]
    except ValueError as error:
        raise FormatError(f"{name}: no moments: {text!r}") from error
    if any(start >= end for start, end in spans):
        raise FormatError(f"{name}: a moment ends before it starts: {text!r}")
    return spans


def index_recordings(
    recordings: Sequence[Path], folder: str, encoder: Encoder, window_s: float, hop_s: float
) -> tuple[Index, list[str]]:
    """Return an index of the recordings, and a line for each that could not be read."""
    from indexer import pipeline

    database = Database(folder, create=True)
    indexed = pipeline.index(list(recordings), database, encoder, window_s=window_s, hop_s=hop_s)
    failures = [f"{indexed.failed} recordings cannot be decoded"] if indexed.failed else []
    return Index(database.table(), encoder=encoder), failures


def lengths_s(index: Index) -> dict[str, float]:
    """Return the end of the last window of each recording, in seconds."""
    ids, _ = index.table.ids_and_vectors()
    lengths: dict[str, float] = {}
    for row in index.table.rows(ids.tolist(), ["uri", "end_s"]):
        lengths[row["uri"]] = max(lengths.get(row["uri"], 0.0), float(row["end_s"]))
    return lengths


def find(index: Index, query: MomentQuery, length_s: float) -> list[Span]:
    """Return the moments of its recording that a query finds, best first."""
    uri = str(query.audio).replace("'", "''")
    hits = index.search(query.text, k=_MOST, per_recording=_MOST, where=f"uri = '{uri}'", language="en")
    return [(hit.start_s or 0.0, length_s if hit.end_s is None else hit.end_s) for hit in hits]


def _row(name: str, scores: MomentScores) -> list[str]:
    pairs = [*((scores.r1[x], scores.r1_interval[x]) for x in (0.5, 0.7)), (scores.map, scores.map_interval)]
    cells = [f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]" for value, (low, high) in pairs]
    return [name, str(scores.n_queries), *cells]

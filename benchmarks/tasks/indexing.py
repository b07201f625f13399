"""Indexing compared with the encoder alone on the same windows: the cost of reading, decoding and writing."""

from __future__ import annotations

import csv
import tempfile
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import click
import numpy as np

from benchmarks.examples import data_option, model_option, select, where_option
from benchmarks.report import markdown, out_option, publish
from benchmarks.stand_ins import BatchRecorder, encode_all
from clara_search.datasets.example import Example
from clara_search.datasets.recordings import read_recording
from clara_search.errors import QueryError
from clara_search.files.tables.formulas import guarded
from clara_search.models.registry import load_encoder
from clara_search.store.database import Database


@click.command()
@data_option
@model_option
@where_option
@click.option("--clips", type=click.IntRange(min=1), default=512, show_default=True, help="Number of clips.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Timings of each, in turn.")
@out_option
def indexing(data: str, model: str, where: tuple[str, ...], clips: int, rounds: int, out: Path | None) -> None:
    """Time indexing, and the encoder alone on the same batches.

    Prints the medians and their ratio.
    """
    from indexer.pipeline import index

    encoder = load_encoder(model)
    indexing_s, encoding_s = [], []
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_manifest(islice(select(data, "all", where), clips), Path(folder))
        # A round that is not timed warms the caches and records the batches.
        recorder = BatchRecorder(encoder)
        summary = index([manifest], Database(Path(folder) / "warm", create=True), recorder)
        for number in range(rounds):
            started = time.perf_counter()
            index([manifest], Database(Path(folder) / f"db{number}", create=True), encoder)
            indexing_s.append(time.perf_counter() - started)
            started = time.perf_counter()
            encode_all(encoder, recorder.batches)
            encoding_s.append(time.perf_counter() - started)
    if not recorder.batches:
        raise QueryError("no clip could be indexed")
    audio_s = sum(len(waveform) for batch in recorder.batches for waveform in batch) / encoder.sample_rate
    medians = {"indexing": float(np.median(indexing_s)), "encoder alone": float(np.median(encoding_s))}
    ratio = medians["encoder alone"] / medians["indexing"]
    rows = [
        [name, f"{seconds:.2f}", f"{summary.indexed / seconds:.1f}", f"{audio_s / seconds:.0f}"]
        for name, seconds in medians.items()
    ]
    result = {
        "benchmark": "indexing",
        "model": encoder.name,
        "fingerprint": encoder.fingerprint,
        "data": data,
        "clips": summary.indexed,
        "windows": sum(map(len, recorder.batches)),
        "audio_s": audio_s,
        "indexing_s": indexing_s,
        "encoder_s": encoding_s,
        "ratio": ratio,
    }
    table = markdown(["", "seconds", "clips/s", "seconds of audio a second"], rows)
    publish(result, f"{table}\n\nIndexing keeps {ratio:.0%} of the encoder's throughput.", out)


def write_manifest(examples: Iterable[Example], folder: Path) -> Path:
    """Write the recordings to files and return their manifest, so that the indexer reads from the disk."""
    manifest = folder / "manifest.csv"
    with manifest.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "text"])
        for number, example in enumerate(examples):
            path = folder / f"{number:06d}.audio"
            path.write_bytes(read_recording(example.audio))
            rows.writerow([path.name, guarded(example.text)])
    return manifest

"""Indexing beside the encoder alone on the very same windows: what reading, cutting and writing cost."""

from __future__ import annotations

import csv
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from benchmarks.examples import data_option, model_option, select, where_option
from benchmarks.report import markdown, out_option, publish
from clara_search.datasets.example import Example
from clara_search.errors import QueryError
from clara_search.models.base import Embeddings, Encoder, max_concurrent_calls
from clara_search.models.registry import load_encoder
from clara_search.store.database import Database


class KeepingEncoder:
    """Passes everything on to an encoder, and keeps the batches of waveforms that it was given."""

    def __init__(self, encoder: Encoder):
        self._encoder = encoder
        self.name = encoder.name
        self.fingerprint = encoder.fingerprint
        self.dim = encoder.dim
        self.sample_rate = encoder.sample_rate
        self.batches: list[list[npt.NDArray[np.float32]]] = []

    def encode_audio(self, waveforms: Sequence[npt.NDArray[np.float32]]) -> Embeddings:
        """Return what the encoder returns for `waveforms`."""
        self.batches.append([waveform.copy() for waveform in waveforms])
        return self._encoder.encode_audio(waveforms)

    def encode_text(self, texts: Sequence[str], language: str | None = None) -> Embeddings:
        """Return what the encoder returns for `texts`."""
        return self._encoder.encode_text(texts, language)


def encode_all(encoder: Encoder, batches: Sequence[Sequence[npt.NDArray[np.float32]]]) -> None:
    """Embed `batches`, as many at a time as the encoder takes, as indexing does."""
    with ThreadPoolExecutor(max_concurrent_calls(encoder)) as threads:
        list(threads.map(encoder.encode_audio, batches))


@click.command()
@data_option
@model_option
@where_option
@click.option("--limit", type=click.IntRange(min=1), default=512, show_default=True, help="How many clips.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Times each, taken in turn.")
@out_option
def indexing(data: str, model: str, where: tuple[str, ...], limit: int, rounds: int, out: Path | None) -> None:
    """Time the whole way from files to a table, and the encoder on the same batches; print the ratio of the medians."""
    from indexer.pipeline import index

    encoder = load_encoder(model)
    indexing_s, encoding_s = [], []
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_manifest(islice(select(data, "all", where), limit), Path(folder))
        # A round that is not timed: it warms the caches and keeps the batches.
        keeping = KeepingEncoder(encoder)
        summary = index([manifest], Database(Path(folder) / "warm", create=True), keeping)
        for number in range(rounds):
            began = time.perf_counter()
            index([manifest], Database(Path(folder) / f"db{number}", create=True), encoder)
            indexing_s.append(time.perf_counter() - began)
            began = time.perf_counter()
            encode_all(encoder, keeping.batches)
            encoding_s.append(time.perf_counter() - began)
    if not keeping.batches:
        raise QueryError("no clip could be indexed")
    audio_s = sum(len(waveform) for batch in keeping.batches for waveform in batch) / encoder.sample_rate
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
        "windows": sum(map(len, keeping.batches)),
        "audio_s": audio_s,
        "indexing_s": indexing_s,
        "encoder_s": encoding_s,
        "ratio": ratio,
    }
    table = markdown(["", "seconds", "clips/s", "seconds of audio a second"], rows)
    publish(result, f"{table}\n\nIndexing keeps {ratio:.0%} of the encoder's throughput.", out)


def write_manifest(examples: Iterable[Example], folder: Path) -> Path:
    """Write the recordings to files and list them in a manifest: the indexer shall read from the disk."""
    manifest = folder / "manifest.csv"
    with manifest.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "text"])
        for number, example in enumerate(examples):
            path = folder / f"{number:06d}.audio"
            path.write_bytes(example.audio if isinstance(example.audio, bytes) else example.audio.read_bytes())
            rows.writerow([path.name, example.text])
    return manifest

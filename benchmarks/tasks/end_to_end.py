"""Indexing from files to a table, compared with the encoder alone and with a plain loop without an indexer."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from benchmarks.examples import model_option
from benchmarks.report import markdown, out_option, publish
from benchmarks.stand_ins import BatchRecorder, encode_all
from clara_search.audio.waveform import Waveform
from clara_search.audio.windows import DEFAULT_HOP_S, DEFAULT_WINDOW_S, window_spans
from clara_search.errors import QueryError
from clara_search.models.base import Embeddings, Encoder
from clara_search.models.batching import padding_mask
from clara_search.models.clara.checkpoint import load_model
from clara_search.models.clara.towers import Clara
from clara_search.models.registry import find_model, load_encoder
from clara_search.store.database import Database
from indexer.pipeline import IndexResult, index
from indexer.sources.listing import list_items

PLAIN_BATCH = 16
"""Windows that the plain loop embeds at once, in their order, padded to the longest."""


@click.command("end-to-end")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@model_option
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Timings of each, in turn.")
@click.option("--plain-clips", type=click.IntRange(min=1), default=200, show_default=True, help="Of the plain loop.")
@out_option
def end_to_end(folder: Path, model: str, rounds: int, plain_clips: int, out: Path | None) -> None:
    """Time indexing, the encoder alone and a plain loop.

    Indexes FOLDER; the encoder alone gets the same windows. The plain loop reads some of the recordings by librosa and
    adds their rows to LanceDB one by one. Prints the medians of seconds of audio per second, and per second of CPU
    time, which other work on the machine does not change. CPU time also bounds the share of the encoder's throughput
    that indexing can reach while all cores are busy: the cost of everything but the encoder is measured by indexing
    with an encoder that takes no time.
    """
    encoder = load_encoder(model)
    plain = PlainLoop(model)
    uris = [item.uri for item in list_items([folder]) if item.kind == "audio" and item.problem is None]
    plain_uris = [uris[row] for row in np.linspace(0, len(uris) - 1, min(plain_clips, len(uris))).astype(int)]
    with tempfile.TemporaryDirectory() as scratch:
        recorder = BatchRecorder(encoder)
        warm = index([folder], Database(Path(scratch) / "warm", create=True), recorder)
        if not warm.indexed:
            raise QueryError(f"{folder}: no recording could be indexed")
        plain.run(plain_uris[:PLAIN_BATCH], Path(scratch) / "plain-warm")
        rates: dict[str, list[float]] = {"indexing": [], "encoder alone": [], "plain loop": []}
        cpu: dict[str, list[float]] = {**{name: [] for name in rates}, "all but the encoder": []}
        stages: list[Any] = []
        for number in range(rounds):
            summary, seconds, cpu_s = _timed(_indexing(folder, Path(scratch) / f"db{number}", encoder))
            rates["indexing"].append(summary.audio_s / seconds)
            cpu["indexing"].append(summary.audio_s / cpu_s)
            stages.append(summary.stages)
            _, seconds, cpu_s = _timed(_encoding(encoder, recorder.batches))
            rates["encoder alone"].append(summary.audio_s / seconds)
            cpu["encoder alone"].append(summary.audio_s / cpu_s)
            audio_s, seconds, cpu_s = _timed(_looping(plain, plain_uris, Path(scratch) / f"plain{number}"))
            rates["plain loop"].append(audio_s / seconds)
            cpu["plain loop"].append(audio_s / cpu_s)
            idle = Path(scratch) / f"idle{number}"
            # One thread: several would only hinder each other where none waits for an encoder.
            _, _, cpu_s = _timed(_indexing(folder, idle, IdleEncoder(encoder), workers=1))
            cpu["all but the encoder"].append(summary.audio_s / cpu_s)
    medians = {name: float(np.median(values)) for name, values in rates.items()}
    of_encoder = float(np.median(np.divide(rates["indexing"], rates["encoder alone"])))
    of_plain = float(np.median(np.divide(rates["indexing"], rates["plain loop"])))
    result: dict[str, Any] = {
        "benchmark": "end-to-end",
        "model": encoder.name,
        "fingerprint": encoder.fingerprint,
        "recordings": warm.indexed,
        "failed": warm.failed,
        "windows": sum(map(len, recorder.batches)),
        "audio_s": warm.audio_s,
        "plain_recordings": len(plain_uris),
        "threads": torch.get_num_threads(),
        "audio_s_per_s": rates,
        "of_encoder": of_encoder,
        "of_plain": of_plain,
        "stages": stages,
    }
    per_cpu_s = {name: float(np.median(values)) for name, values in cpu.items()}
    # CPU seconds for a second of audio add up.
    bound = 1 / (1 + per_cpu_s["encoder alone"] / per_cpu_s["all but the encoder"])
    result |= {"audio_s_per_cpu_s": cpu, "bound_of_encoder": bound}
    rows = [
        [
            name,
            f"{medians[name]:.0f}" if name in medians else "",
            f"{rate:.0f}",
            f"{rate / per_cpu_s['plain loop']:.1f} x",
        ]
        for name, rate in per_cpu_s.items()
    ]
    headings = ["", "seconds of audio per second", "per CPU second", "relative to the plain loop"]
    sentence = (
        f"Indexing reaches {of_encoder:.0%} of the encoder's throughput and {of_plain:.1f} x that of the plain loop "
        f"(medians over {rounds} rounds). With every core always busy it would reach {bound:.0%}: reading, hashing, "
        "decoding, resampling and writing take the rest. The encoder alone is given windows in memory and computes the "
        "log-mels, as it does when indexing."
    )
    publish(result, f"{markdown(headings, rows)}\n\n{sentence}", out)


class IdleEncoder(BatchRecorder):
    """An encoder that takes no time."""

    def encode_audio(self, waveforms: Sequence[Waveform]) -> Embeddings:
        """Return the same unit vector for all waveforms."""
        return np.full((len(waveforms), self.dim), self.dim**-0.5, np.float32)


class PlainLoop:
    """Embedding without an indexer: librosa reads and computes log-mels, and rows are added one by one."""

    def __init__(self, model: str) -> None:
        loaded, _ = load_model(find_model(model))
        if not isinstance(loaded, Clara):
            raise click.UsageError("only CLARA models can be compared")
        self.model = loaded.eval().requires_grad_(requires_grad=False)

    def run(self, uris: Sequence[str], database: Path) -> float:
        """Embed recordings into a new LanceDB table; return their duration in seconds."""
        import lancedb
        import librosa

        config = self.model.config.mel
        table: Any = None
        audio_s = 0.0
        pending: list[tuple[str, float, Waveform]] = []
        for uri in uris:
            waveform, _ = librosa.load(uri, sr=config.sample_rate)
            audio_s += len(waveform) / config.sample_rate
            for span in window_spans(len(waveform) / config.sample_rate, DEFAULT_WINDOW_S, DEFAULT_HOP_S):
                first, last = round(span.start_s * config.sample_rate), round(span.end_s * config.sample_rate)
                pending.append((uri, span.start_s, waveform[first:last]))
            while len(pending) >= PLAIN_BATCH or (pending and uri == uris[-1]):
                batch, pending = pending[:PLAIN_BATCH], pending[PLAIN_BATCH:]
                vectors = self._embed([window for _, _, window in batch])
                for (name, start_s, _), vector in zip(batch, vectors, strict=True):
                    row = {"uri": name, "start_s": start_s, "vector": vector}
                    if table is None:
                        table = lancedb.connect(str(database)).create_table("plain", data=[row])
                    else:
                        table.add([row])
        return audio_s

    @torch.inference_mode()
    def _embed(self, waveforms: Sequence[Waveform]) -> np.ndarray[Any, np.dtype[np.float32]]:
        import librosa

        config = self.model.config.mel
        log_mels = []
        for waveform in waveforms:
            mel = librosa.feature.melspectrogram(
                y=waveform,
                sr=config.sample_rate,
                n_fft=config.n_fft,
                win_length=config.win_length,
                hop_length=config.hop_length,
                n_mels=config.n_mels,
                fmax=config.f_max,
            )
            decibels = librosa.power_to_db(mel, ref=np.max, top_db=-config.min_db)
            log_mels.append(torch.from_numpy(((decibels + 40) / 40).T.astype(np.float32)))
        mask = padding_mask([len(log_mel) for log_mel in log_mels])
        frames = torch.nn.utils.rnn.pad_sequence(log_mels, batch_first=True)
        return np.asarray(self.model.embed_log_mels(frames, mask).numpy())


def _indexing(folder: Path, database: Path, encoder: Encoder, workers: int = 0) -> Callable[[], IndexResult]:
    return lambda: index([folder], Database(database, create=True), encoder, workers=workers)


def _encoding(encoder: Encoder, batches: Sequence[Sequence[Waveform]]) -> Callable[[], None]:
    return lambda: encode_all(encoder, batches)


def _looping(plain: PlainLoop, uris: Sequence[str], database: Path) -> Callable[[], float]:
    return lambda: plain.run(uris, database)


def _timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return the result of `work`, and the seconds and CPU seconds (of all threads) that it took."""
    started, cpu_started = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - started, time.process_time() - cpu_started

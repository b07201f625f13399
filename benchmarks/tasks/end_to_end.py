"""The whole way from files to a table, beside the encoder alone and the loop that one writes without an indexer."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from benchmarks.report import markdown, publish
from benchmarks.tasks.indexing import KeepingEncoder, encode_all
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
"""Windows that the plain loop embeds at once, in the order they come, padded to the longest."""


def compare(folder: Path, model: str, rounds: int, plain_clips: int, out: Path | None) -> None:
    """Index `folder`, embed the same windows from memory, and run the plain loop over `plain_clips` of its recordings.

    The three take turns, `rounds` times; the medians of seconds of audio a second are compared. So are the seconds of
    processor: they hold where other work shares the machine, and they bound what indexing can keep of the encoder's
    throughput where all cores are busy, for who decodes cannot embed meanwhile. What is not the encoder's is measured
    by indexing with one that takes no time.
    """
    encoder = load_encoder(model)
    plain = PlainLoop(model)
    uris = [item.uri for item in list_items([folder]) if item.kind == "audio" and item.problem is None]
    some = [uris[place] for place in np.linspace(0, len(uris) - 1, min(plain_clips, len(uris))).astype(int)]
    with tempfile.TemporaryDirectory() as scratch:
        keeping = KeepingEncoder(encoder)
        warm = index([folder], Database(Path(scratch) / "warm", create=True), keeping)
        if not warm.indexed:
            raise QueryError(f"{folder}: no recording could be indexed")
        plain.run(some[:PLAIN_BATCH], Path(scratch) / "plain-warm")
        rates: dict[str, list[float]] = {"indexing": [], "encoder alone": [], "plain loop": []}
        processor: dict[str, list[float]] = {**{name: [] for name in rates}, "all but the encoder": []}
        stages: list[Any] = []
        for number in range(rounds):
            summary, seconds, cpu_s = _timed(_indexing(folder, Path(scratch) / f"db{number}", encoder))
            rates["indexing"].append(summary.audio_s / seconds)
            processor["indexing"].append(summary.audio_s / cpu_s)
            stages.append(summary.stages)
            _, seconds, cpu_s = _timed(_encoding(encoder, keeping.batches))
            rates["encoder alone"].append(summary.audio_s / seconds)
            processor["encoder alone"].append(summary.audio_s / cpu_s)
            audio_s, seconds, cpu_s = _timed(_looping(plain, some, Path(scratch) / f"plain{number}"))
            rates["plain loop"].append(audio_s / seconds)
            processor["plain loop"].append(audio_s / cpu_s)
            idle = Path(scratch) / f"idle{number}"
            # Of its own accord it would take threads that are in each other's way: here nothing waits for an encoder.
            _, _, cpu_s = _timed(_indexing(folder, idle, IdleEncoder(encoder), threads=1))
            processor["all but the encoder"].append(summary.audio_s / cpu_s)
    medians = {name: float(np.median(found)) for name, found in rates.items()}
    of_encoder = float(np.median(np.divide(rates["indexing"], rates["encoder alone"])))
    of_plain = float(np.median(np.divide(rates["indexing"], rates["plain loop"])))
    result: dict[str, Any] = {
        "benchmark": "throughput --index",
        "model": encoder.name,
        "fingerprint": encoder.fingerprint,
        "recordings": warm.indexed,
        "failed": warm.failed,
        "windows": sum(map(len, keeping.batches)),
        "audio_s": warm.audio_s,
        "plain_recordings": len(some),
        "threads": torch.get_num_threads(),
        "audio_s_per_s": rates,
        "of_encoder": of_encoder,
        "of_plain": of_plain,
        "stages": stages,
    }
    of_processor = {name: float(np.median(found)) for name, found in processor.items()}
    # Seconds of processor for a second of audio are what adds up.
    bound = 1 / (1 + of_processor["encoder alone"] / of_processor["all but the encoder"])
    result |= {"audio_s_per_cpu_s": processor, "bound_of_encoder": bound}
    rows = [
        [
            name,
            f"{medians[name]:.0f}" if name in medians else "",
            f"{rate:.0f}",
            f"{rate / of_processor['plain loop']:.1f} x",
        ]
        for name, rate in of_processor.items()
    ]
    headings = ["", "seconds of audio a second", "a second of processor", "of the plain loop's"]
    sentence = (
        f"Indexing keeps {of_encoder:.0%} of the encoder's throughput, {of_plain:.1f} x that of the plain loop, by the "
        f"medians of the ratios of {rounds} rounds. With every core busy all the time it would keep {bound:.0%}: "
        "reading, hashing, decoding, resampling and writing take the rest. The encoder alone begins at windows in "
        "memory, at its own rate, and makes the log-mels, as it does when indexing."
    )
    publish(result, f"{markdown(headings, rows)}\n\n{sentence}", out)


class IdleEncoder(KeepingEncoder):
    """Stands for an encoder that takes no time."""

    def encode_audio(self, waveforms: Sequence[Waveform]) -> Embeddings:
        """Return one and the same unit vector for all."""
        return np.full((len(waveforms), self.dim), self.dim**-0.5, np.float32)


class PlainLoop:
    """What one writes first: librosa reads and makes log-mels, padded to the longest; rows are added one by one."""

    def __init__(self, model: str) -> None:
        found, _ = load_model(find_model(model))
        if not isinstance(found, Clara):
            raise click.UsageError("--index compares CLARA models")
        self.model = found.eval().requires_grad_(requires_grad=False)

    def run(self, uris: Sequence[str], database: Path) -> float:
        """Embed the recordings into a new LanceDB table; return how many seconds of windows of audio they have."""
        import lancedb
        import librosa

        config = self.model.config.mel
        table: Any = None
        audio_s = 0.0
        held: list[tuple[str, float, Waveform]] = []
        for uri in uris:
            waveform, _ = librosa.load(uri, sr=config.sample_rate)
            audio_s += len(waveform) / config.sample_rate
            for span in window_spans(len(waveform) / config.sample_rate, DEFAULT_WINDOW_S, DEFAULT_HOP_S):
                first, last = round(span.start_s * config.sample_rate), round(span.end_s * config.sample_rate)
                held.append((uri, span.start_s, waveform[first:last]))
            while len(held) >= PLAIN_BATCH or (held and uri == uris[-1]):
                batch, held = held[:PLAIN_BATCH], held[PLAIN_BATCH:]
                for (name, start_s, _), vector in zip(batch, self._embed([one[2] for one in batch]), strict=True):
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
                win_length=config.window,
                hop_length=config.hop_length,
                n_mels=config.n_mels,
                fmax=config.f_max,
            )
            decibels = librosa.power_to_db(mel, ref=np.max, top_db=-config.min_db)
            log_mels.append(torch.from_numpy(((decibels + 40) / 40).T.astype(np.float32)))
        mask = padding_mask([len(one) for one in log_mels])
        frames = torch.nn.utils.rnn.pad_sequence(log_mels, batch_first=True)
        return np.asarray(self.model.embed_log_mels(frames, mask).numpy())


def _indexing(folder: Path, database: Path, encoder: Encoder, threads: int = 0) -> Callable[[], IndexResult]:
    return lambda: index([folder], Database(database, create=True), encoder, threads=threads)


def _encoding(encoder: Encoder, batches: Sequence[Sequence[Waveform]]) -> Callable[[], None]:
    return lambda: encode_all(encoder, batches)


def _looping(plain: PlainLoop, uris: Sequence[str], database: Path) -> Callable[[], float]:
    return lambda: plain.run(uris, database)


def _timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return what `work` returns, and the seconds and seconds of processor (of all threads) that it took."""
    began, cpu_began = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - began, time.process_time() - cpu_began

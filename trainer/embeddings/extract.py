"""Recordings to vectors on all cores: each thread reads, decodes and embeds recordings of its own.

On a CPU that is faster than an encoder that spreads each of its operations over the cores: no thread waits for another.
An accelerator is given one batch at a time, while the next ones are decoded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from clara_search.audio.waveform import Waveform
from clara_search.audio.windows import crop, window_spans
from clara_search.cpu import core_count
from clara_search.datasets.labelled import Clip
from clara_search.datasets.recordings import decode_recording, hash_recording, read_recording
from clara_search.errors import ClaraError
from clara_search.models.base import Embeddings, Encoder
from clara_search.models.batching import encode_in_parts
from clara_search.models.cpu_pool import core_pool
from clara_search.models.windows import mean_embedding
from trainer.embeddings.file_hashes import FileHashes
from trainer.embeddings.store import EmbeddingStore

BATCH_WINDOWS, BATCH_AUDIO_S = 256, 1280.0
"""Windows and seconds of audio that a thread gathers before it embeds them: the more, the more of like length."""

_CLIP = "the clip"
"""Name of a recording whose key nobody here knows, in errors of the decoder."""


@dataclass(frozen=True)
class EncoderSpec:
    """An encoder that is loaded once there is something to embed.

    Attributes:
        name: for people.
        fingerprint: SHA-256 over configuration and weights, and the precision.
        dim: length of a vector.
        load: returns the encoder.
        parallel: whether several threads may call the encoder at once.
    """

    name: str
    fingerprint: str
    dim: int
    load: Callable[[], Encoder]
    parallel: bool = False


class _Recording(NamedTuple):
    """A recording that was read: its windows, none if its vector is in the store, or the reason why it is unusable."""

    clip_index: int
    digest: bytes = b""
    windows: Sequence[Waveform] = ()
    problem: str | None = None


class Extractor:
    """Embeds clips into a store, by windows of `window_s` seconds every `hop_s` seconds.

    Attributes:
        digests: SHA-256 of the files that were read, by the clips' indices.
        problems: why the other clips cannot be used, by index.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        model: EncoderSpec,
        store: EmbeddingStore,
        file_hashes: FileHashes,
        window_s: float,
        hop_s: float,
    ) -> None:
        self.digests: dict[int, bytes] = {}
        self.problems: dict[int, str] = {}
        self._clips, self._model, self._store, self._file_hashes = clips, model, store, file_hashes
        self._window_s, self._hop_s = window_s, hop_s
        self._lock = threading.Lock()
        self._is_stopped = threading.Event()

    def run(self, indices: Sequence[int]) -> None:
        """Embed the clips at `indices`; when a thread fails, the vectors of the others stay in the store."""
        encoder = self._model.load()
        self._pending = iter(indices)
        # Of an accelerator, or an encoder that cannot be called by several threads, each waits for its turn.
        self._encoder_calls = threading.Semaphore(len(indices) if self._model.parallel else 1)
        with (
            self._file_hashes,
            tqdm(total=len(indices), desc="embedding", unit="clip", disable=None) as bar,
            self._threads(len(indices)) as (pool, workers),
        ):
            jobs: list[Future[None]] = [pool.submit(self._work, encoder, bar) for _ in range(workers)]
            try:
                for job in as_completed(jobs):
                    job.result()
            finally:
                self._is_stopped.set()
                wait(jobs)
        for index, digest in self.digests.items():
            if digest not in self._store:
                self.problems.setdefault(index, "the same recording could not be embedded")

    @contextmanager
    def _threads(self, count: int) -> Iterator[tuple[ThreadPoolExecutor, int]]:
        """Yield the threads to work in, and how many of them `count` clips keep busy."""
        if self._model.parallel:
            yield core_pool(), min(torch.get_num_threads(), count)
        else:
            workers = min(core_count(), count)
            with ThreadPoolExecutor(workers) as pool:
                yield pool, workers

    def _work(self, encoder: Encoder, bar: tqdm[object]) -> None:
        """Read and embed pending clips until none is left."""
        rate, batch = encoder.sample_rate, list[_Recording]()
        while not self._is_stopped.is_set():
            with self._lock:
                index = next(self._pending, None)
            if index is None:
                break
            recording = self._read(index, rate)
            with self._lock:
                bar.update()
                if recording.problem is not None:
                    self.problems[index] = recording.problem
                else:
                    self.digests[index] = recording.digest
                    self._file_hashes.record(self._clips[index], recording.digest)
            if recording.windows:
                batch.append(recording)
            if _is_full(batch, rate):
                self._embed(batch, encoder)
                batch = []
        self._embed(batch, encoder)

    def _read(self, index: int, rate: int) -> _Recording:
        try:
            clip = self._clips[index]
            content = read_recording(clip.audio)
            digest = hash_recording(clip, content)
            if digest in self._store:
                return _Recording(index, digest)
            waveform = decode_recording(clip, content, rate, _CLIP)
            spans = window_spans(len(waveform) / rate, self._window_s, self._hop_s)
            return _Recording(index, digest, [crop(waveform, span, rate) for span in spans])
        except Exception as error:  # a decoder may fail in any way, and that costs its own file only
            return _Recording(index, problem=_reason(error))

    def _embed(self, batch: Sequence[_Recording], encoder: Encoder) -> None:
        """Embed recordings together and store their vectors; note those that the encoder refuses."""
        fresh = list(
            {recording.digest: recording for recording in batch if recording.digest not in self._store}.values()
        )
        if not fresh:
            return

        def encode(recordings: Sequence[_Recording]) -> Embeddings:
            with self._encoder_calls:
                return _encode(recordings, encoder)

        for recordings, vectors in encode_in_parts(encode, fresh):
            with self._lock:
                if isinstance(vectors, str):
                    self.problems[recordings[0].clip_index] = vectors
                else:
                    self._store.add([recording.digest for recording in recordings], vectors)


def _encode(recordings: Sequence[_Recording], encoder: Encoder) -> Embeddings:
    """Return the mean vectors of recordings over their windows, shape (n, dim)."""
    windows = [window for recording in recordings for window in recording.windows]
    batches = [windows[start : start + BATCH_WINDOWS] for start in range(0, len(windows), BATCH_WINDOWS)]
    vectors = np.concatenate([encoder.encode_audio(batch) for batch in batches])
    bounds = np.cumsum([0, *(len(recording.windows) for recording in recordings)])
    return np.stack([_mean(vectors[first:last]) for first, last in pairwise(bounds)])


def _is_full(batch: Sequence[_Recording], rate: int) -> bool:
    lengths = [len(window) for recording in batch for window in recording.windows]
    return len(lengths) >= BATCH_WINDOWS or sum(lengths) >= BATCH_AUDIO_S * rate


def _mean(vectors: Embeddings) -> Embeddings:
    return vectors[0] if len(vectors) == 1 else mean_embedding(vectors)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    message = str(error).removeprefix(f"{_CLIP}: ")  # its key stands before the reason anyway
    return message if isinstance(error, ClaraError) else f"{type(error).__name__}: {message}"

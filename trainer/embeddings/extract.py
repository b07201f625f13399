"""Recordings to vectors, all cores at work: each thread reads, decodes and embeds, and asks for no other's help.

On a CPU that is faster than an encoder that spreads each of its operations over the cores: no thread waits for another,
and those that decode take nothing from those that embed. An accelerator is given batches one at a time, while the next
ones are decoded.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from clara_search.audio.decode import load_audio
from clara_search.audio.waveform import Waveform
from clara_search.audio.windows import crop, window_spans
from clara_search.cpu import core_count
from clara_search.datasets.labelled import Clip
from clara_search.datasets.readers import read_audio_bytes
from clara_search.errors import ClaraError
from clara_search.models.base import Embeddings, Encoder
from clara_search.models.windows import mean_embedding
from trainer.embeddings.file_hashes import FileHashes
from trainer.embeddings.store import EmbeddingStore
from trainer.runtime.threads import torch_threads

WINDOWS_A_BATCH, SECONDS_A_BATCH = 256, 1280.0
"""What a thread gathers before it is embedded: the more there is, the more of it is alike in length."""


@dataclass(frozen=True)
class EncoderSpec:
    """What is known of a model before it is loaded, which happens when there is something to embed.

    With `parallel` several threads may use the encoder at once.
    """

    name: str
    fingerprint: str
    dim: int
    load: Callable[[], Encoder]
    parallel: bool = False


class _Heard(NamedTuple):
    """A recording that was read: what of its content, and its windows where they are to be embedded."""

    position: int
    digest: bytes = b""
    windows: Sequence[Waveform] = ()
    reason: str | None = None


class Extractor:
    """Embeds clips into `store`, whose windows of `cutting` (seconds of a window, and from one to the next) it makes.

    Attributes:
        digests: SHA-256 of the files that were read, by the clips' positions.
        problems: why the others cannot be used, by position.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        model: EncoderSpec,
        store: EmbeddingStore,
        contents: FileHashes,
        cutting: tuple[float, float],
    ) -> None:
        self.digests: dict[int, bytes] = {}
        self.problems: dict[int, str] = {}
        self._clips, self._model, self._store, self._contents = clips, model, store, contents
        self._cutting = cutting
        self._lock = threading.Lock()
        self._is_over = threading.Event()

    def run(self, positions: Sequence[int]) -> None:
        """Embed the clips at `positions`; what a thread has embedded is kept whatever becomes of the others."""
        encoder = self._model.load()
        encoders = torch.get_num_threads() if self._model.parallel else 1
        workers = max(1, min(max(core_count(), encoders), len(positions)))
        self._waiting = iter(positions)
        self._turns = threading.Semaphore(encoders)
        with (
            torch_threads(1 if self._model.parallel else torch.get_num_threads()),
            self._contents,
            tqdm(total=len(positions), desc="embedding", unit="clip", disable=None) as bar,
            ThreadPoolExecutor(workers) as pool,
        ):
            jobs = [pool.submit(self._work, encoder, bar) for _ in range(workers)]
            try:
                for job in as_completed(jobs):
                    job.result()
            finally:
                self._is_over.set()
        for position, digest in self.digests.items():
            if digest not in self._store:
                self.problems.setdefault(position, "the same recording could not be embedded")

    def _work(self, encoder: Encoder, bar: tqdm[object]) -> None:
        """Read what nobody has begun with, and embed it, until nothing is left."""
        rate, gathered = encoder.sample_rate, list[_Heard]()
        while not self._is_over.is_set():
            with self._lock:
                position = next(self._waiting, None)
            if position is None:
                break
            heard = self._read(position, rate)
            with self._lock:
                bar.update()
                if heard.reason is not None:
                    self.problems[position] = heard.reason
                else:
                    self.digests[position] = heard.digest
                    self._contents.note(self._clips[position], heard.digest)
            if heard.windows:
                gathered.append(heard)
            if _is_batch(gathered, rate):
                self._embed(gathered, encoder)
                gathered = []
        self._embed(gathered, encoder)

    def _read(self, position: int, rate: int) -> _Heard:
        try:
            content = read_audio_bytes(self._clips[position].audio)
            digest = hashlib.sha256(content).digest()
            if digest in self._store:
                return _Heard(position, digest)
            waveform = load_audio(content, rate)
            found = window_spans(len(waveform) / rate, *self._cutting)
            return _Heard(position, digest, [crop(waveform, window, rate) for window in found])
        except Exception as error:  # a decoder may fail in any way, and that costs its own file only
            return _Heard(position, reason=_reason(error))

    def _embed(self, gathered: Sequence[_Heard], encoder: Encoder) -> None:
        """Embed recordings together and store them; where the encoder refuses, one by one: it may be one's fault."""
        fresh = list({heard.digest: heard for heard in gathered if heard.digest not in self._store}.values())
        if not fresh:
            return
        parts = [part for heard in fresh for part in heard.windows]
        try:
            with self._turns:
                vectors = np.concatenate(
                    [
                        encoder.encode_audio(parts[at : at + WINDOWS_A_BATCH])
                        for at in range(0, len(parts), WINDOWS_A_BATCH)
                    ]
                )
        except ClaraError as error:
            if len(fresh) == 1:
                with self._lock:
                    self.problems[fresh[0].position] = str(error)
            else:
                for heard in fresh:
                    self._embed([heard], encoder)
            return
        firsts = np.cumsum([0, *(len(heard.windows) for heard in fresh)])
        means = [_mean(vectors[first:last]) for first, last in pairwise(firsts)]
        with self._lock:
            self._store.add([heard.digest for heard in fresh], np.stack(means))


def _is_batch(gathered: Sequence[_Heard], rate: int) -> bool:
    lengths = [len(part) for heard in gathered for part in heard.windows]
    return len(lengths) >= WINDOWS_A_BATCH or sum(lengths) >= SECONDS_A_BATCH * rate


def _mean(vectors: Embeddings) -> Embeddings:
    return vectors[0] if len(vectors) == 1 else mean_embedding(vectors)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    # The decoder was given bytes, and names them: that says nothing to anybody.
    said = re.sub(r"^<\d+ bytes>: ", "", str(error))
    return said if isinstance(error, ClaraError) else f"{type(error).__name__}: {said}"

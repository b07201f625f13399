"""Stand-ins for an encoder and for recordings, for benchmarks of everything else."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from clara_search.audio.waveform import Waveform
from clara_search.models.base import Embeddings, Encoder, LoadOptions, max_concurrent_calls

_SAMPLE_RATE = 16_000
_DIM = 64
_SEED = 0


class BatchRecorder:
    """An encoder that passes all calls on to another one and records the batches of waveforms."""

    def __init__(self, encoder: Encoder):
        self._encoder = encoder
        self.name = encoder.name
        self.fingerprint = encoder.fingerprint
        self.dim = encoder.dim
        self.sample_rate = encoder.sample_rate
        self.batches: list[list[Waveform]] = []

    def encode_audio(self, waveforms: Sequence[Waveform]) -> Embeddings:
        """Return the other encoder's vectors of `waveforms`."""
        self.batches.append([waveform.copy() for waveform in waveforms])
        return self._encoder.encode_audio(waveforms)

    def encode_text(self, texts: Sequence[str], language: str | None = None) -> Embeddings:
        """Return the other encoder's vectors of `texts`."""
        return self._encoder.encode_text(texts, language)


def encode_all(encoder: Encoder, batches: Sequence[Sequence[Waveform]]) -> None:
    """Embed `batches` with as many concurrent calls as indexing makes."""
    with ThreadPoolExecutor(max_concurrent_calls(encoder)) as threads:
        list(threads.map(encoder.encode_audio, batches))


class ProjectionEncoder:
    """An encoder without a model: a fixed random projection of a clip's spectrum, after a pause of `pause_s` a clip."""

    sample_rate = _SAMPLE_RATE

    def __init__(self, pause_s: float = 0.0, dim: int = _DIM) -> None:
        self.name = f"projection:{dim}"
        self.fingerprint = hashlib.sha256(self.name.encode()).hexdigest()
        self.dim = dim
        self._pause_s = pause_s
        self._matrix = np.random.default_rng(_SEED).standard_normal((257, dim))

    @classmethod
    def load(cls, source: str | Path, options: LoadOptions) -> ProjectionEncoder:
        """Return the encoder whose number of dimensions is `source`."""
        return cls(dim=int(str(source)))

    @classmethod
    def describe(cls, source: str | Path) -> dict[str, Any]:
        """Return name, dimensions, sample rate and fingerprint of the encoder with `source` dimensions."""
        encoder = cls(dim=int(str(source)))
        return {key: getattr(encoder, key) for key in ("name", "dim", "sample_rate", "fingerprint")}

    def encode_audio(self, waveforms: Sequence[Waveform]) -> Embeddings:
        """Return a unit vector for each of `waveforms`, shape (n, dim)."""
        time.sleep(self._pause_s * len(waveforms))
        return np.concatenate([self._project(np.abs(np.fft.rfft(waveform, 512))) for waveform in waveforms])

    def encode_text(self, texts: Sequence[str], language: str | None = None) -> Embeddings:
        """Return a unit vector for each of `texts`, shape (n, dim)."""
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) for text in texts]
        return np.concatenate([self._project(np.random.default_rng(seed).random(257)) for seed in seeds])

    def _project(self, spectrum: npt.NDArray[np.float64]) -> Embeddings:
        vector = np.log1p(spectrum)[None] @ self._matrix
        return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def write_noise(path: Path, rng: random.Random, min_s: float = 1.0, max_s: float = 3.0) -> None:
    """Write noise of a random length between `min_s` and `max_s` seconds to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = round(rng.uniform(min_s, max_s) * _SAMPLE_RATE)
    noise = np.random.default_rng(rng.getrandbits(32)).standard_normal(samples)
    soundfile.write(path, 0.1 * noise.astype(np.float32), _SAMPLE_RATE)

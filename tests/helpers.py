"""Shared by the tests: a small real encoder, and recordings to feed it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

ROOT = Path(__file__).parent.parent
FIXTURES = ROOT / "tests" / "fixtures"
PARITY = FIXTURES / "parity"

SAMPLE_RATE = 16_000
DIM = 16


class ToneEncoder:
    """Embeds sound by the energy in 16 bands and text by its words: fast, and the same for the same content.

    It has what plumbing needs (like sounds lie close, no vector depends on its batch) and knows nothing of meaning.
    """

    name = "tone"
    dim = DIM
    sample_rate = SAMPLE_RATE

    def __init__(self, version: str = "1") -> None:
        self.fingerprint = hashlib.sha256(f"tone {version}".encode()).hexdigest()
        self.clips_encoded = 0
        self.texts_encoded = 0
        self.batch_sizes: list[int] = []

    def encode_audio(self, waveforms: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        self.clips_encoded += len(waveforms)
        self.batch_sizes.append(len(waveforms))
        return np.stack([band_energies(waveform) for waveform in waveforms])

    def encode_text(self, texts: Sequence[str], language: str | None = None) -> npt.NDArray[np.float32]:
        self.texts_encoded += len(texts)
        return np.stack([_word_vector(text, language) for text in texts])


def band_energies(waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Log energies of 16 bands between 60 Hz and 8 kHz over the whole clip, as a unit vector."""
    power = np.abs(np.fft.rfft(waveform, n=max(len(waveform), 512))) ** 2 / len(waveform)
    frequencies = np.linspace(0, SAMPLE_RATE / 2, len(power))
    edges = np.geomspace(60, SAMPLE_RATE / 2, DIM + 1)
    bands = np.digitize(frequencies, edges) - 1
    energies = [power[bands == band].sum() for band in range(DIM)]
    vector = np.log1p(np.array(energies) * 1e3)
    return _unit(vector + 1e-6)


def _word_vector(text: str, language: str | None) -> npt.NDArray[np.float32]:
    seeds = [int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big") for word in text.lower().split()]
    words = sum((np.random.default_rng(seed).standard_normal(DIM) for seed in seeds), np.zeros(DIM))
    return _unit(words + (0.0 if language is None else 0.1) + 1e-6)


def _unit(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def tone(frequency: float, duration_s: float = 1.0, sample_rate: int = SAMPLE_RATE) -> npt.NDArray[np.float32]:
    """A sine at half scale, shape (samples,)."""
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(duration_s * sample_rate)) / sample_rate)).astype(
        np.float32
    )


def write_tone(
    path: Path,
    frequency: float = 440.0,
    duration_s: float = 1.0,
    sample_rate: int = SAMPLE_RATE,
    channels: int = 1,
) -> Path:
    """Write a sine to `path`, in the format of its suffix; the folder is made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = tone(frequency, duration_s, sample_rate)
    soundfile.write(path, np.tile(samples[:, None], channels), sample_rate)
    return path

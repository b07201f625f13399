"""A model type of another package, minimal: `test_registry` installs it with an entry point."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clara_search.errors import DeviceError, FormatError, UnknownModel
from clara_search.models.base import Embeddings, LoadOptions
from clara_search.models.batching import validate_texts, validate_waveforms


class PitchBands:
    """Encoder of the power in octave bands from 55 Hz on; its texts are pitches, such as "440 Hz"."""

    sample_rate = 16000
    lowest_hz = 55.0

    def __init__(self, bands: int, name: str) -> None:
        self.dim, self.name = bands, name
        self.fingerprint = hashlib.sha256(f"pitch-bands {bands}".encode()).hexdigest()

    @classmethod
    def load(cls, source: str | Path, options: LoadOptions) -> PitchBands:
        if options.precision not in ("auto", "fp32"):
            raise DeviceError(f"pitch-bands runs in fp32, not in {options.precision}")
        if isinstance(source, Path):
            bands = json.loads((source / "config.json").read_text(encoding="utf-8")).get("bands")
            if not isinstance(bands, int):
                raise FormatError(f"{source / 'config.json'}: bands must be a number, got {bands!r}")
            return cls(bands, options.name or source.resolve().name)
        if not source.isdecimal():
            raise UnknownModel(f"pitch-bands:{source}: expected a number of bands")
        return cls(int(source), options.name or f"pitch-bands:{source}")

    @classmethod
    def describe(cls, source: str | Path) -> dict[str, Any]:
        encoder = cls.load(source, LoadOptions())
        return {key: getattr(encoder, key) for key in ("name", "dim", "sample_rate", "fingerprint")}

    def encode_audio(self, waveforms: Sequence[npt.NDArray[np.float32]]) -> Embeddings:
        return np.stack([self._embed_power(waveform) for waveform in validate_waveforms(waveforms)])

    def encode_text(self, texts: Sequence[str], language: str | None = None) -> Embeddings:
        pitches_hz = [float(match[0]) if (match := re.search(r"\d+", text)) else 0.0 for text in validate_texts(texts)]
        return self._unit_vectors(np.array([self._bands(np.array([pitch]), np.ones(1)) for pitch in pitches_hz]))

    def _embed_power(self, waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        power = np.abs(np.fft.rfft(waveform)) ** 2
        return self._unit_vectors(self._bands(np.fft.rfftfreq(len(waveform), 1 / self.sample_rate), power))

    def _bands(self, frequencies_hz: npt.NDArray[np.float64], power: npt.NDArray[np.floating]) -> npt.NDArray[Any]:
        octaves = np.log2(np.maximum(frequencies_hz, 1.0) / self.lowest_hz).round().clip(0, self.dim - 1)
        return np.bincount(octaves.astype(int), power, self.dim)

    @staticmethod
    def _unit_vectors(vectors: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        vectors = vectors + 1e-9
        return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), dtype=np.float32)

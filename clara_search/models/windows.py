"""Embeddings of the windows of a recording, and their mean."""

from __future__ import annotations

import numpy as np

from clara_search.audio.waveform import Waveform
from clara_search.audio.windows import Window, crop, window_spans
from clara_search.models.base import Embeddings, Encoder

_WINDOWS_A_BATCH = 16


def embed_windows(
    encoder: Encoder, waveform: Waveform, window_s: float, hop_s: float
) -> tuple[list[Window], Embeddings]:
    """Return the windows of a waveform at the encoder's sample rate and their embeddings, shape (windows, dim)."""
    stretches = list(window_spans(len(waveform) / encoder.sample_rate, window_s, hop_s))
    embeddings = []
    for first in range(0, len(stretches), _WINDOWS_A_BATCH):
        batch = stretches[first : first + _WINDOWS_A_BATCH]
        embeddings.append(encoder.encode_audio([crop(waveform, stretch, encoder.sample_rate) for stretch in batch]))
    return stretches, np.concatenate(embeddings)


def mean_embedding(embeddings: Embeddings) -> Embeddings:
    """Return the unit vectors along the means of `embeddings` over their second last axis, (..., n, d) -> (..., d)."""
    mean = embeddings.mean(axis=-2, dtype=np.float64)
    norm = np.linalg.norm(mean, axis=-1, keepdims=True)
    return np.asarray(mean / np.maximum(norm, 1e-12), dtype=np.float32)

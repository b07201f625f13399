"""Embeddings of the windows of a recording, and their mean."""

from __future__ import annotations

import numpy as np

from clara_search.audio.waveform import Waveform
from clara_search.audio.windows import Window, crop, window_spans
from clara_search.models.base import Embeddings, Encoder

_WINDOWS_PER_BATCH = 16


def embed_windows(
    encoder: Encoder, waveform: Waveform, window_s: float, hop_s: float
) -> tuple[list[Window], Embeddings]:
    """Embed the windows of a recording.

    Args:
        encoder: The encoder.
        waveform: Mono, shape (samples,), at the encoder's sample rate.
        window_s: Length of a window in seconds.
        hop_s: Seconds from the start of one window to that of the next.

    Returns:
        The windows, and their embeddings, shape (windows, dim).

    Raises:
        AudioError: The waveform is empty or not finite.
    """
    windows = list(window_spans(len(waveform) / encoder.sample_rate, window_s, hop_s))
    embeddings = []
    for start in range(0, len(windows), _WINDOWS_PER_BATCH):
        batch = windows[start : start + _WINDOWS_PER_BATCH]
        embeddings.append(encoder.encode_audio([crop(waveform, window, encoder.sample_rate) for window in batch]))
    return windows, np.concatenate(embeddings)


def mean_embedding(embeddings: Embeddings) -> Embeddings:
    """Return the normalised mean of embeddings over their second-last axis: (..., n, dim) -> (..., dim)."""
    mean = embeddings.mean(axis=-2, dtype=np.float64)
    norm = np.linalg.norm(mean, axis=-1, keepdims=True)
    return np.asarray(mean / np.maximum(norm, 1e-12), dtype=np.float32)

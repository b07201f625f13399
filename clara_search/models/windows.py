"""Embeddings of the windows of a recording."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clara_search.audio.waveform import Waveform
from clara_search.audio.windows import Window, cut, windows
from clara_search.models.base import Embeddings, Encoder

if TYPE_CHECKING:
    pass


_WINDOWS_A_BATCH = 16


def embed_windows(
    encoder: Encoder, waveform: Waveform, window_s: float, hop_s: float
) -> tuple[list[Window], Embeddings]:
    """Return the windows of a waveform at the encoder's sample rate and their embeddings, shape (windows, dim)."""
    stretches = list(windows(len(waveform) / encoder.sample_rate, window_s, hop_s))
    embeddings = []
    for first in range(0, len(stretches), _WINDOWS_A_BATCH):
        batch = stretches[first : first + _WINDOWS_A_BATCH]
        embeddings.append(encoder.encode_audio([cut(waveform, stretch, encoder.sample_rate) for stretch in batch]))
    return stretches, np.concatenate(embeddings)

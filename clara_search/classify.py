"""Name recordings by their nearest prompt, window by window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clara_search.audio import DEFAULT_HOP_S, DEFAULT_WINDOW_S, Waveform, Window, cut, load_audio, windows
from clara_search.encoder import Embeddings, Encoder

_WINDOWS_A_BATCH = 16


@dataclass(frozen=True)
class Classification:
    """A stretch of a recording and its label: `scores` holds the cosine of each label, `score` that of the best."""

    uri: str
    start_s: float
    end_s: float
    label: str
    score: float
    scores: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return what `classify --json` prints."""
        return asdict(self)


def classify_file(
    path: str | Path,
    encoder: Encoder,
    labels: Sequence[str],
    classes: Embeddings,
    window_s: float = DEFAULT_WINDOW_S,
    hop_s: float = DEFAULT_HOP_S,
) -> Iterator[Classification]:
    """Yield a classification for each window of the recording at `path`.

    `classes` (labels, dim) comes from `class_embeddings`. Raises AudioError where the file cannot be used.
    """
    uri = str(Path(path).resolve())
    waveform = load_audio(path, encoder.sample_rate)
    for stretch, vector in zip(*embed_windows(encoder, waveform, window_s, hop_s), strict=True):
        yield nearest(uri, stretch, vector, labels, classes)


def nearest(
    uri: str, stretch: Window, vector: Embeddings, labels: Sequence[str], classes: Embeddings
) -> Classification:
    """Return which of `labels`, with embeddings `classes` (labels, dim), is nearest to `vector` (dim,).

    Of equally near labels the first one wins.
    """
    cosines = [round(float(cosine), 6) for cosine in classes @ vector]
    best = max(range(len(labels)), key=cosines.__getitem__)
    return Classification(uri, *stretch, labels[best], cosines[best], dict(zip(labels, cosines, strict=True)))


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

"""The Encoder protocol: what embeds audio and text into one space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Embeddings = npt.NDArray[np.float32]
"""Shape (n, dim), each row of unit norm."""


@runtime_checkable
class Encoder(Protocol):
    """What embeds audio and text into one space. An embedding never depends on its batch."""

    @property
    def name(self) -> str:
        """For people: "clara-small"."""

    @property
    def fingerprint(self) -> str:
        """Sha256 over configuration and weights; stored in every table."""

    @property
    def dim(self) -> int:
        """Length of a vector."""

    @property
    def sample_rate(self) -> int:
        """Hz that `encode_audio` expects."""

    def encode_audio(self, waveforms: Sequence[npt.NDArray[np.float32]]) -> Embeddings:
        """Return unit vectors, shape (n, dim), of mono waveforms at `sample_rate` Hz, each of any length."""

    def encode_text(self, texts: Sequence[str], language: str | None = None) -> Embeddings:
        """Return unit vectors, shape (n, dim), of `texts`, all in `language` (a code such as "en") where given."""


def max_concurrent_calls(encoder: Encoder) -> int:
    """Return how many threads may call `encoder`, and should: what it says of itself by an attribute, or one."""
    return max(1, getattr(encoder, "max_concurrent_calls", 1))

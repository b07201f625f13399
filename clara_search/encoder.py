"""The Encoder protocol, and `load_encoder`, which finds one by name, folder or hub id."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Embeddings = npt.NDArray[np.float32]
"""Shape (n, dim), each row of unit norm."""

DEFAULT_MODEL = "clara-small"


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


def load_encoder(model: str | Path = DEFAULT_MODEL, device: str | None = None) -> Encoder:
    """Return the encoder of a bundled model's name or of a model folder.

    It computes on `device` ("cpu", "cuda", "cuda:1"), by default on the first GPU where torch finds one.
    Raises UnknownModel where there is none of that name, FormatError where its folder is broken.
    """
    from clara_search.models import catalog
    from clara_search.models.clara_encoder import ClaraEncoder

    return ClaraEncoder(catalog.find(model), device)

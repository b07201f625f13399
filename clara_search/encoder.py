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


def calls_at_once(encoder: Encoder) -> int:
    """Return how many threads may call `encoder`, and should: what it says of itself by an attribute, or one."""
    return max(1, getattr(encoder, "calls_at_once", 1))


def load_encoder(
    model: str | Path = DEFAULT_MODEL,
    device: str | None = None,
    precision: str = "auto",
    compile_model: bool = False,
) -> Encoder:
    """Return the encoder of a model: a bundled one's name, a model folder, or a hub id, "organisation/name[@revision]".

    A folder holds a CLARA model of this project or a CLAP model of `transformers`. It computes on `device` ("cpu",
    "cuda", "cuda:1"), by default on the first GPU where torch finds one, in `precision`: "fp32", "bf16", "int8" (CLARA
    on a CPU), or "auto", which is bf16 on a GPU that multiplies it and fp32 elsewhere. `compile_model` has
    torch compile it, which takes minutes and pays on a GPU over a large corpus.

    Raises UnknownModel where there is none of that name, FormatError where its folder is broken, DeviceError for a
    device or a precision that there is not.
    """
    from clara_search.models import catalog

    folder = catalog.find(model)
    name = str(model) if not Path(model).is_dir() and str(model) not in catalog.bundled() else None
    if catalog.model_type(folder) == "clap":
        from clara_search.models.hf_clap import ClapEncoder

        return ClapEncoder(folder, device, precision, compile_model, name)
    from clara_search.models.clara_encoder import ClaraEncoder

    return ClaraEncoder(folder, device, precision, compile_model, name)

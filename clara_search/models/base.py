"""The protocols of encoders: the vectors they compute, and how a type of model is loaded and described."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Embeddings = npt.NDArray[np.float32]
"""Shape (n, dim), each row of unit norm."""


@runtime_checkable
class Encoder(Protocol):
    """A model that embeds audio and text into one space.

    The embedding of a clip or text never depends on its batch: alone and among others it is the same to 1e-5.

    An encoder may also have the attributes `max_concurrent_calls` and `takes_language` (see the functions of these
    names). It must be picklable to be used by `--engine ray`.
    """

    @property
    def name(self) -> str:
        """The name by which `load_encoder` finds the model again, such as "clara-small"; tables store it."""

    @property
    def fingerprint(self) -> str:
        """A digest of everything that decides a vector: configuration, weights, tokenizer. Tables store it."""

    @property
    def dim(self) -> int:
        """Length of an embedding."""

    @property
    def sample_rate(self) -> int:
        """Sample rate in Hz that `encode_audio` expects."""

    def encode_audio(self, waveforms: Sequence[npt.NDArray[np.float32]]) -> Embeddings:
        """Embed waveforms.

        Args:
            waveforms: Mono, each of shape (samples,), at `sample_rate` Hz, full scale 1.0, of any length above 0.

        Returns:
            Unit vectors, shape (n, dim), float32.

        Raises:
            AudioError: A waveform is empty, not mono or not finite.
        """

    def encode_text(self, texts: Sequence[str], language: str | None = None) -> Embeddings:
        """Embed texts.

        Args:
            texts: Any strings, the empty one included.
            language: Language of all texts, a code such as "en"; None: not known.

        Returns:
            Unit vectors, shape (n, dim), float32.
        """


@dataclass(frozen=True)
class LoadOptions:
    """Options of `load_encoder`, as an `EncoderType` gets them.

    Attributes:
        device: A device of torch, "cpu", "cuda" or "cuda:1"; None: the first GPU if torch finds one, else the CPU.
        precision: "auto", "fp32", "bf16" or "int8". "auto" is bf16 on a GPU that supports it, else fp32.
        compile_model: Have torch compile the model.
        name: Value of `Encoder.name`; None: the name that the model folder states.
    """

    device: str | None = None
    precision: str = "auto"
    compile_model: bool = False
    name: str | None = None


DEFAULT_OPTIONS = LoadOptions()


class EncoderType(Protocol):
    """A type of model, registered under a name: usually the encoder's class, which has these as class methods.

    Packages register one as an entry point of the group `clara_search.encoders`. `load_encoder` passes it every model
    folder whose `config.json` states its name as `"model_type"`, and SOURCE of every model named "TYPE:SOURCE".
    """

    def load(self, source: str | Path, options: LoadOptions) -> Encoder:
        """Load a model.

        Args:
            source: The model folder, or SOURCE of "TYPE:SOURCE" if that is not a folder.
            options: Device, precision, compilation and name.

        Returns:
            The encoder, ready to use.

        Raises:
            FormatError: The folder is broken.
            UnknownModel: There is no such source.
            DeviceError: The device or precision is not available for this model.
        """

    def describe(self, source: str | Path) -> dict[str, Any]:
        """Describe a model without loading its weights.

        Args:
            source: As in `load`.

        Returns:
            "name", "dim", "sample_rate" (Hz) and "fingerprint", as the loaded encoder has them, and any further facts
            that `clara-search models show` is to print.

        Raises:
            FormatError: The folder is broken.
            UnknownModel: There is no such source.
        """


def max_concurrent_calls(encoder: Encoder) -> int:
    """Return how many threads should call `encoder` at once: its attribute of that name, or 1."""
    return max(1, getattr(encoder, "max_concurrent_calls", 1))


def takes_language(encoder: Encoder) -> bool:
    """Return whether the language of a text changes its embedding: the attribute of that name, or True."""
    return bool(getattr(encoder, "takes_language", True))

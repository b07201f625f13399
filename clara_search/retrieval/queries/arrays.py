"""Vectors and waveforms as callers bring them: numpy arrays, tensors, lists, any number type; checked, as float32."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clara_search.audio.waveform import LOWEST_RATE, Waveform
from clara_search.errors import QueryError
from clara_search.models.base import Embeddings

Audio = str | Path | bytes | Waveform | tuple[Any, int] | Mapping[str, Any]
"""A recording: a path, the bytes of a file, a waveform, a pair of waveform and rate, or the dict of `array` and
`sampling_rate` that Hugging Face's `datasets` have."""

_UNIT_TOLERANCE = 1e-6


def to_array(values: Any, what: str) -> npt.NDArray[np.float32]:
    """Return an array, a tensor of any device, or a list of numbers as float32.

    Args:
        values: The numbers; integers of 16 or 32 bits keep their values.
        what: What they are, for errors, such as "a query vector".

    Returns:
        A new array, or the given one.

    Raises:
        QueryError: They are no real numbers, of one shape, that are finite in float32.
    """
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if str(getattr(values, "dtype", "")) == "torch.bfloat16" else values
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise QueryError(f"{what} is no array of numbers ({error})") from error
    if array.dtype.kind not in "fiu":
        raise QueryError(f"{what} is no array of real numbers: its type is {array.dtype}")
    with np.errstate(over="ignore"):
        converted = array.astype(np.float32, copy=False)
    if not np.isfinite(converted).all():
        raise QueryError(f"{what} holds numbers that are not finite")
    return converted


def to_unit_vectors(values: object, dim: int) -> Embeddings:
    """Return query vectors, of any length above 0, as unit vectors.

    Args:
        values: Shape (queries, dim).
        dim: Number of dimensions of the table's vectors.

    Returns:
        Unit vectors, shape (queries, dim).

    Raises:
        QueryError: They have another shape, are no finite numbers, or one is zero.
    """
    vectors = to_array(values, "a query vector")
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise QueryError(f"the table holds vectors of {dim} numbers; expected (queries, {dim}), got {vectors.shape}")
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    if (np.abs(norms - 1) <= _UNIT_TOLERANCE).all():
        return vectors  # keeps its bits
    if not norms.all():
        raise QueryError(f"query vector {int(np.flatnonzero(norms == 0)[0])} is zero: it has no direction")
    return np.asarray(vectors / norms[:, np.newaxis], dtype=np.float32)


def to_waveform(samples: object) -> Waveform:
    """Return samples as a mono waveform at full scale 1.

    Args:
        samples: Shape (samples,) or (1, samples). Integers of 16 or 32 bits are scaled.

    Returns:
        Mono float32, shape (samples,).

    Raises:
        QueryError: They are empty, not mono, not finite, or of another type.
    """
    full_scale = {"int16": 1 << 15, "int32": 1 << 31}
    kind = str(getattr(samples, "dtype", "float")).removeprefix("torch.")
    if "int" in kind and kind not in full_scale:
        raise QueryError(f"a waveform of {kind} has no known scale: give float32, int16 or int32")
    waveform = to_array(samples, "a waveform")
    if waveform.ndim == 2 and waveform.shape[0] == 1:
        waveform = waveform[0]
    if waveform.ndim != 1 or not len(waveform):
        raise QueryError(
            f"a waveform must have the shape (samples,) and not be empty, got {waveform.shape}: average its channels"
        )
    return waveform / np.float32(full_scale[kind]) if kind in full_scale else waveform


def with_rate(audio: Audio, sample_rate: int | None) -> tuple[str | Path | bytes | Waveform, int | None]:
    """Return a recording, and the rate of its samples in Hz; None for a file, and where no rate is known.

    Args:
        audio: The recording.
        sample_rate: The rate of a waveform that comes without one.

    Raises:
        QueryError: The rate is given twice, to a file, or is none; or `audio` is none of the known types.
    """
    if isinstance(audio, Mapping) and {"array", "sampling_rate"} <= set(audio):
        audio = (audio["array"], audio["sampling_rate"])
    if isinstance(audio, tuple):
        if len(audio) != 2 or np.ndim(audio[1]) != 0:
            raise QueryError("a recording as a tuple is a pair of waveform and sample rate")
        if sample_rate is not None:
            raise QueryError("the recording brings its sample rate: leave `sample_rate` out")
        return to_waveform(audio[0]), _check_rate(audio[1])
    if isinstance(audio, (str, Path, bytes)):
        if sample_rate is not None:
            raise QueryError("a file states its own sample rate: leave `sample_rate` out")
        return audio, None
    return to_waveform(audio), None if sample_rate is None else _check_rate(sample_rate)


def _check_rate(rate: Any) -> int:
    try:
        value = float(rate)
    except (TypeError, ValueError):
        value = 0.0
    if not value.is_integer() or not LOWEST_RATE <= value <= 10_000_000:
        raise QueryError(f"the sample rate must be a whole number of Hz, at least {LOWEST_RATE}, got {rate!r}")
    return int(value)

"""Helpers of encoders: device and precision, validation of inputs, chunks of long waveforms, batches by length."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from clara_search.audio.waveform import Waveform
from clara_search.errors import AudioError, ClaraError, DeviceError, FormatError, QueryError, first_line

Precision = Literal["fp32", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")

TEXT_TOKENS_PER_BATCH = {"cpu": 2048, "cuda": 32768}
"""Tokens per batch, padding included; see `batch_budget`."""

MAX_SAMPLE_MAGNITUDE = 1e6
"""Largest magnitude of a sample: full scale is 1, and the power of larger ones might not be finite."""

_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")

T = TypeVar("T")

Span = tuple[int, int]
"""First sample of a chunk of a waveform, and the one after its last."""


def choose_device(device: str | None) -> torch.device:
    """Return a device that torch can compute on.

    Args:
        device: "cpu", "cuda", "cuda:1" ...; None: the first GPU if torch finds one, else the CPU.

    Returns:
        The device.

    Raises:
        DeviceError: Torch does not know the device or does not find it.
    """
    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=chosen).tolist()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise DeviceError(f"cannot compute on {device!r} ({first_line(error)})") from error
    return chosen


def check_compiler(device: torch.device) -> None:
    """Check that torch can compile a model for `device`.

    Raises:
        DeviceError: The device is a CPU, for which torch needs a C++ compiler, and there is none.
    """
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise DeviceError(f"to compile a model for a CPU, torch needs a C++ compiler: {compiler} is not installed")


def choose_precision(precision: str, device: torch.device) -> Precision:
    """Return the precision to compute in.

    Args:
        precision: "fp32", "bf16", "int8", or "auto": bf16 on a GPU that supports it, else fp32. On a CPU "auto" is
            never bf16: on most it is six times slower than fp32, which gives the same vectors on all of them.
        device: Where the model computes.

    Returns:
        The precision, never "auto".

    Raises:
        DeviceError: There is no such precision, or it is int8 on a GPU.
    """
    if precision == "auto":
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    for known in PRECISIONS:
        if precision == known:
            if known == "int8" and device.type != "cpu":
                raise DeviceError("int8 runs on a CPU only: use bf16 on a GPU")
            return known
    raise DeviceError(f"no precision {precision!r}: expected auto, {', '.join(PRECISIONS)}")


def quantize_int8(module: nn.Module) -> None:
    """Quantise the linear layers in `module` to int8, dynamically, with a scale per output channel.

    The scale of activations is that of the whole batch: embed one clip at a time, or vectors depend on their batch.
    """
    from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic

    with warnings.catch_warnings():
        # torch warns that this is deprecated; its successor, torchao, is not needed for anything else here.
        warnings.simplefilter("ignore")
        quantize_dynamic(module, {nn.Linear: per_channel_dynamic_qconfig}, inplace=True)  # type: ignore[no-untyped-call]


def validate_waveforms(waveforms: Sequence[Waveform]) -> list[Waveform]:
    """Check waveforms and return them as float32.

    Args:
        waveforms: Each mono, shape (samples,), floating point from -1 to 1.

    Returns:
        The waveforms as float32.

    Raises:
        AudioError: A waveform is empty, not mono, not floating point, or not finite; the message says which.
    """
    waveforms, valid = list(waveforms), []
    for index, waveform in enumerate(waveforms):
        label = f"waveform {index + 1} of {len(waveforms)}"
        array = np.asarray(waveform)
        if array.ndim != 1:
            raise AudioError(f"{label} has shape {array.shape}: expected mono, (samples,); average the channels")
        if not len(array):
            raise AudioError(f"{label} is empty")
        if array.dtype.kind != "f":
            raise AudioError(f"{label} is {array.dtype}: expected floating point from -1 to 1")
        peak = np.abs(array).max()  # NaN if a sample is NaN
        if not np.isfinite(peak):
            raise AudioError(f"{label} has samples that are not finite")
        if peak > MAX_SAMPLE_MAGNITUDE:
            raise AudioError(f"{label} has samples of up to {peak:g}: expected from -1 to 1")
        valid.append(array.astype(np.float32, copy=False))
    return valid


def validate_texts(texts: Sequence[str]) -> list[str]:
    """Check texts and return them as a list.

    Args:
        texts: Strings of valid Unicode.

    Returns:
        The texts.

    Raises:
        QueryError: `texts` is one string, or holds something else than strings, or a lone surrogate.
    """
    if isinstance(texts, str):
        raise QueryError("expected a list of texts, got one text: put it into a list")
    texts = list(texts)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise QueryError(f"text {index + 1} of {len(texts)} is not a string: {text!r}")
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise QueryError(f"text {index + 1} of {len(texts)} is not Unicode: {text[:40]!a}")
    return texts


def chunk_spans(samples: int, max_samples: int) -> list[Span]:
    """Return chunks of equal length, at most `max_samples`, that cover `samples` with the least overlap."""
    count = -(-samples // max_samples)
    if count <= 1:
        return [(0, samples)]
    starts = np.linspace(0, samples - max_samples, count).round().astype(int)
    return [(int(start), int(start) + max_samples) for start in starts]


def embed_chunks(
    waveforms: Sequence[Waveform],
    max_samples: int,
    dim: int,
    embed: Callable[[list[Waveform]], npt.NDArray[np.float32]],
) -> npt.NDArray[np.float32]:
    """Embed waveforms of any length by a model that takes a limited length.

    Args:
        waveforms: Each of shape (samples,).
        max_samples: Longest waveform that `embed` takes; longer ones are embedded in chunks, the vectors averaged.
        dim: Length of an embedding.
        embed: Returns unit vectors, shape (chunks, dim), of waveforms.

    Returns:
        Unit vectors, shape (n, dim), float32.
    """
    spans = [chunk_spans(len(waveform), max_samples) for waveform in waveforms]
    chunks = [
        waveform[start:end]
        for waveform, of_waveform in zip(waveforms, spans, strict=True)
        for start, end in of_waveform
    ]
    if not chunks:
        return np.zeros((0, dim), dtype=np.float32)
    vectors = embed(chunks)
    if len(chunks) == len(waveforms):
        return vectors
    first_chunks = np.cumsum([0, *map(len, spans[:-1])])
    sums = np.add.reduceat(vectors, first_chunks, axis=0)
    return np.asarray(sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def length_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield batches of items of similar length.

    Args:
        lengths: Length of each item, such as its tokens.
        budget: Largest size of a batch, padding included, in the same unit. A longer item is a batch of its own.

    Yields:
        Indices of the items of a batch, the longest first.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def encode_in_parts(
    encode: Callable[[Sequence[T]], npt.NDArray[np.float32]],
    batch: Sequence[T],
    on_out_of_memory: Callable[[int], None] | None = None,
) -> Iterator[tuple[Sequence[T], npt.NDArray[np.float32] | str]]:
    """Encode a batch or, if that fails, its parts, so that a bad item costs only itself.

    If memory runs out, both halves are tried; if the encoder refuses the batch with a ClaraError, each item is.

    Args:
        encode: Returns the vectors of some items.
        batch: The items, at least one.
        on_out_of_memory: Called with the number of items that did not fit into memory together.

    Yields:
        Items and their vectors, or a single item and the reason why it has no vector; in the order of `batch`.
    """
    try:
        vectors = encode(batch)
    except Exception as error:
        is_memory = is_out_of_memory(error)
        if not is_memory and not isinstance(error, ClaraError):
            raise
        reason = "does not fit into memory" if is_memory else str(error)
    else:
        yield batch, vectors
        return
    if len(batch) == 1:
        yield batch, reason
        return
    if is_memory and on_out_of_memory is not None:
        on_out_of_memory(len(batch))
    size = len(batch) // 2 if is_memory else 1
    for start in range(0, len(batch), size):
        yield from encode_in_parts(encode, batch[start : start + size], on_out_of_memory)


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether `error` says that memory ran out, on this machine or an accelerator."""
    says_so = isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _OUT_OF_MEMORY)
    return isinstance(error, MemoryError) or says_so


def batch_budget(device: torch.device, budgets: Mapping[str, int]) -> int:
    """Return the budget for `device` among those of "cpu" and, for any accelerator, "cuda"."""
    return budgets["cpu" if device.type == "cpu" else "cuda"]


def unit_norm(vectors: Tensor) -> npt.NDArray[np.float32]:
    """Normalise vectors in float32, since bf16 keeps a norm to two digits only.

    Args:
        vectors: Shape (n, dim), on any device, of any floating-point type.

    Returns:
        Unit vectors, shape (n, dim), float32.

    Raises:
        FormatError: A vector is zero or not finite, since the weights are zero or too large.
    """
    norms = vectors.float().norm(dim=-1, keepdim=True)
    if not bool((norms.isfinite() & (norms > 0)).all()):
        raise FormatError("the model computes vectors that are zero or not finite: its weights are broken")
    unit: npt.NDArray[np.float32] = (vectors.float() / norms).cpu().numpy()
    return unit


def padding_mask(lengths: Sequence[int]) -> Tensor:
    """Return a mask of shape (n, longest), false for padding, of sequences of the given lengths."""
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]

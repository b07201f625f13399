"""What every encoder does around its model: look at what comes in, choose a precision, cut, batch and average."""

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
"""Padded tokens embedded at once, by `batch_budget`."""

MAX_SAMPLE_MAGNITUDE = 1e6
"""Samples beyond this are no sound: full scale is 1, and their power would not be finite."""

_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")

T = TypeVar("T")

Span = tuple[int, int]
"""First and one past the last sample of a part of a waveform."""


def choose_device(device: str | None) -> torch.device:
    """Return `device`, or the first GPU where torch finds one, else the CPU.

    Raises DeviceError for one that torch does not know or does not find.
    """
    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=chosen).tolist()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise DeviceError(f"cannot compute on {device!r} ({first_line(error)})") from error
    return chosen


def check_compiler(device: torch.device) -> None:
    """Raise DeviceError where torch has no compiler for `device`: on a CPU it asks one of C++."""
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise DeviceError(f"to compile a model for a CPU, torch needs a compiler of C++, and there is no {compiler}")


def choose_precision(precision: str, device: torch.device) -> Precision:
    """Return `precision`, where it is not "auto": bf16 on a GPU that multiplies it, fp32 elsewhere.

    A CPU is never given bf16 unasked: most are six times slower in it than in fp32, and fp32 gives the same vectors on
    all of them. Raises DeviceError for what is no precision, and for int8 on a GPU.
    """
    if precision == "auto":
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    for known in PRECISIONS:
        if precision == known:
            if known == "int8" and device.type != "cpu":
                raise DeviceError("int8 runs on a CPU; on a GPU take bf16")
            return known
    raise DeviceError(f"no precision {precision!r}: take auto, {', '.join(PRECISIONS)}")


def quantize_int8(module: nn.Module) -> None:
    """Make the linear layers inside `module` multiply in int8, with weights quantised by output channel.

    Activations get their scale from all that is multiplied at once: embed one clip at a time, or a vector would
    depend on its batch.
    """
    from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic

    with warnings.catch_warnings():
        # torch announces that this will go one day; its successor, torchao, is not needed for anything else here.
        warnings.simplefilter("ignore")
        quantize_dynamic(module, {nn.Linear: per_channel_dynamic_qconfig}, inplace=True)  # type: ignore[no-untyped-call]


def validate_waveforms(waveforms: Sequence[Waveform]) -> list[Waveform]:
    """Return `waveforms` as float32. Raises AudioError, saying which, for one that is empty, not mono or not finite."""
    waveforms, found = list(waveforms), []
    for place, waveform in enumerate(waveforms):
        which = f"waveform {place + 1} of {len(waveforms)}"
        array = np.asarray(waveform)
        if array.ndim != 1:
            raise AudioError(f"{which} has shape {array.shape}: expected mono, (samples,); average the channels")
        if not len(array):
            raise AudioError(f"{which} is empty")
        if array.dtype.kind != "f":
            raise AudioError(f"{which} holds {array.dtype}: expected floating point from -1 to 1")
        peak = np.abs(array).max()  # of a sample that is no number, no number
        if not np.isfinite(peak):
            raise AudioError(f"{which} holds samples that are not finite")
        if peak > MAX_SAMPLE_MAGNITUDE:
            raise AudioError(f"{which} holds samples of up to {peak:g}: expected from -1 to 1")
        found.append(array.astype(np.float32, copy=False))
    return found


def validate_texts(texts: Sequence[str]) -> list[str]:
    """Return `texts`. Raises QueryError for a lone string, for what is no string, and for half a surrogate pair."""
    if isinstance(texts, str):
        raise QueryError("expected a list of texts, got one text: put it into a list")
    texts = list(texts)
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise QueryError(f"text {place + 1} of {len(texts)} is no text: {text!r}")
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise QueryError(f"text {place + 1} of {len(texts)} is not Unicode: {text[:40]!a}")
    return texts


def chunk_spans(samples: int, longest: int) -> list[Span]:
    """Return parts of equal length, at most `longest` samples, that cover `samples` with the least overlap."""
    count = -(-samples // longest)
    if count <= 1:
        return [(0, samples)]
    starts = np.linspace(0, samples - longest, count).round().astype(int)
    return [(int(start), int(start) + longest) for start in starts]


def embed_chunks(
    waveforms: Sequence[Waveform], longest: int, dim: int, embed: Callable[[list[Waveform]], npt.NDArray[np.float32]]
) -> npt.NDArray[np.float32]:
    """Return unit vectors (n, dim) of `waveforms` by `embed`, which takes waveforms of at most `longest` samples.

    The vector of a longer one is the mean of its parts', brought back to unit norm.
    """
    cuts = [chunk_spans(len(waveform), longest) for waveform in waveforms]
    parts = [waveform[a:b] for waveform, cut in zip(waveforms, cuts, strict=True) for a, b in cut]
    if not parts:
        return np.zeros((0, dim), dtype=np.float32)
    vectors = embed(parts)
    if len(parts) == len(waveforms):
        return vectors
    firsts = np.cumsum([0, *map(len, cuts[:-1])])
    sums = np.add.reduceat(vectors, firsts, axis=0)
    return np.asarray(sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def length_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield batches of indices, longest first, each of at most `budget` units once padded (or of one item)."""
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
    """Encode a batch or, where that fails, its parts, so that a bad item costs nothing but itself.

    Where memory runs out, both halves are tried; where the encoder refuses the batch with a ClaraError, each item is.

    Args:
        encode: gives the vectors of some items.
        batch: the items, at least one.
        on_out_of_memory: called with the number of items that did not fit into memory together.

    Yields:
        Items and their vectors, or a single item and the reason why it has no vector; all in the order of `batch`.
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
    """Return the budget of a batch on `device`: that of a CPU, or of any accelerator ("cuda")."""
    return budgets["cpu" if device.type == "cpu" else "cuda"]


def unit_norm(vectors: Tensor) -> npt.NDArray[np.float32]:
    """Return vectors in float32, brought back to unit norm: bf16 keeps it to two digits.

    Raises FormatError for one that has no direction: weights that are all zero, or too large to compute with.
    """
    norms = vectors.float().norm(dim=-1, keepdim=True)
    if not bool((norms.isfinite() & (norms > 0)).all()):
        raise FormatError("the model gives vectors that are zero or not finite: its weights are broken")
    unit: npt.NDArray[np.float32] = (vectors.float() / norms).cpu().numpy()
    return unit


def padding_mask(lengths: Sequence[int]) -> Tensor:
    """Return a mask, shape (n, longest), that is true where something stands."""
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]

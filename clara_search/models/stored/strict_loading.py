"""Tensors of a file into a module: all of them, nothing else, and of the shape that is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn

from clara_search.errors import FormatError
from clara_search.files.limits import MODEL_PARAMETERS
from clara_search.models.state_dict import summarize
from clara_search.models.stored.safetensors_files import read_tensors

__all__ = ["check_size", "load_strictly", "read_tensors"]

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

_NAMES = {torch.uint8: "bytes", torch.int64: "integers of 64 bits"}

_SHARED = 2
"""Tensors of a file may share numbers, as tied weights do: together at most this many times what it holds."""


def check_size(module: nn.Module, path: Path) -> None:
    """Check the number of parameters of a module on the meta device, which takes no memory yet.

    Args:
        module: the module.
        path: the file with its configuration, for messages.

    Raises:
        FormatError: it has more than the limit `model_parameters`.
    """
    MODEL_PARAMETERS.check(sum(x.numel() for x in chain(module.parameters(), module.buffers())), path)


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Make `module`, which may lie on the meta device, hold `tensors`: numbers in float32, others as they are.

    Names and shapes are compared first, then types, then what the tensors take; only then is a number read.

    Args:
        module: the module to fill.
        tensors: its state dict, as stored.
        path: the file they are from, for messages.

    Raises:
        FormatError: A tensor is missing, unknown, of another shape, or holds no numbers that can be computed with.
    """
    wanted = module.state_dict()
    missing = [f"{name} is missing" for name in wanted if name not in tensors]
    unknown = [f"{name} is unknown" for name in tensors if name not in wanted]
    misshapen = [
        f"{name} has shape {tuple(tensor.shape)}, expected {tuple(wanted[name].shape)}"
        for name, tensor in tensors.items()
        if name in wanted and tensor.shape != wanted[name].shape
    ]
    if missing or unknown or misshapen:
        raise FormatError(f"{path}: {summarize(missing, unknown, misshapen)}")
    for name, tensor in tensors.items():
        _check_numbers(name, tensor, wanted[name].dtype, path)
    check_shared(tensors, path)
    loaded = {name: tensor.float() if wanted[name].is_floating_point() else tensor for name, tensor in tensors.items()}
    if broken := [f"{name} is not finite" for name, tensor in loaded.items() if not is_finite(tensor)]:
        raise FormatError(f"{path}: {summarize(broken)}")
    module.load_state_dict(loaded, assign=True)


def check_shared(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Check that tensors of a file are no larger than what it holds.

    Args:
        tensors: its tensors by name.
        path: the file.

    Raises:
        FormatError: A tensor repeats its numbers, as `expand` makes it do, or the same numbers are in many tensors.
    """
    for name, tensor in tensors.items():
        if tensor.layout is torch.strided and tensor.nbytes > tensor.untyped_storage().nbytes():
            raise FormatError(f"{path}: {name} repeats the same numbers: it was not stored whole")
    total, held = sum(tensor.nbytes for tensor in tensors.values()), path.stat().st_size
    if total > _SHARED * held:
        raise FormatError(f"{path}: its tensors have {total:,} bytes, and the file {held:,}: they are the same numbers")


def is_finite(tensor: Tensor) -> bool:
    """Tell whether all numbers of a tensor are finite, without a mask of its size."""
    return not tensor.is_floating_point() or not tensor.numel() or bool(torch.stack(tensor.aminmax()).isfinite().all())


def _check_numbers(name: str, tensor: Tensor, wanted: torch.dtype, path: Path) -> None:
    dtypes = _DTYPES if wanted.is_floating_point else (wanted,)
    if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.dtype not in dtypes:
        stored = f"{tensor.dtype}, {tensor.layout} on {tensor.device}"
        numbers = "floating-point numbers" if wanted.is_floating_point else _NAMES.get(wanted, str(wanted))
        raise FormatError(f"{path}: {name} is {stored}, expected dense {numbers}")

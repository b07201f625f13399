"""Tensors of a safetensors file into a module: all of them, nothing else, and of the shape that is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from clara_search.errors import FormatError
from clara_search.models.state_dict import summarize

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file by name.

    Raises:
        FormatError: The file cannot be read.
    """
    try:
        return safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise FormatError(f"{path}: cannot be read ({error})") from error


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Make `module`, which may lie on the meta device, hold `tensors`: numbers in float32, bytes as they are.

    Args:
        module: the module to fill.
        tensors: its state dict, as stored.
        path: the file they are from, for messages.

    Raises:
        FormatError: A tensor is missing, unknown, of another shape, or holds no numbers that can be computed with.
    """
    wanted = module.state_dict()
    for name, tensor in tensors.items():
        is_bytes = name in wanted and wanted[name].dtype == torch.uint8
        dtypes = (torch.uint8,) if is_bytes else _DTYPES
        if tensor.layout is not torch.strided or tensor.device.type != "cpu" or tensor.dtype not in dtypes:
            stored = f"{tensor.dtype}, {tensor.layout} on {tensor.device}"
            numbers = "bytes" if is_bytes else "floating-point numbers"
            raise FormatError(f"{path}: {name} is {stored}, expected dense {numbers}")
    missing = [f"{name} is missing" for name in wanted if name not in tensors]
    unknown = [f"{name} is unknown" for name in tensors if name not in wanted]
    misshapen = [
        f"{name} has shape {tuple(tensor.shape)}, expected {tuple(wanted[name].shape)}"
        for name, tensor in tensors.items()
        if name in wanted and tensor.shape != wanted[name].shape
    ]
    loaded = {name: tensor if tensor.dtype == torch.uint8 else tensor.float() for name, tensor in tensors.items()}
    broken = [f"{name} is not finite" for name, tensor in loaded.items() if not tensor.isfinite().all()]
    if missing or unknown or misshapen or broken:
        raise FormatError(f"{path}: {summarize(missing, unknown, misshapen, broken)}")
    module.load_state_dict(loaded, assign=True)

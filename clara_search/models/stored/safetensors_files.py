"""Safetensors files of other people: what their header declares is checked before a tensor is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from clara_search.errors import FormatError
from clara_search.files.json_reader import parse_object
from clara_search.files.limits import TENSOR_HEADER_BYTES, TENSORS, WEIGHTS_BYTES
from clara_search.files.regular import open_regular, size_of

_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8}
_BITS |= {"U64": 64, "U32": 32, "U16": 16, "C64": 64, "F8_E4M3": 8, "F8_E5M2": 8}

_LENGTH_BYTES = 8
"""Of the number before the header."""


@dataclass(frozen=True)
class Declared:
    """What the header of a file declares of a tensor.

    Attributes:
        dtype: Type of its numbers, as safetensors spells it.
        shape: Its shape.
    """

    dtype: str
    shape: tuple[int, ...]


def read_header(path: Path) -> Mapping[str, Declared]:
    """Return what a safetensors file declares of its tensors, by name.

    Raises:
        FormatError: The file cannot be read, is larger than a limit, or declares what it does not hold.
    """
    try:
        with open_regular(path) as file:
            size = size_of(file, path, WEIGHTS_BYTES)
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if length > size - _LENGTH_BYTES:
                raise FormatError(f"{path}: cannot be read (its header is cut short)")
            TENSOR_HEADER_BYTES.check(length, path)
            header = file.read(length)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror})") from error
    entries = parse_object(header, f"{path}, header")
    entries.pop("__metadata__", None)
    TENSORS.check(len(entries), path)
    declared = {name: _parse_entry(path, name, entry) for name, entry in entries.items()}
    held = size - _LENGTH_BYTES - length
    if (total := sum(_BITS[x.dtype] // 8 * math.prod(x.shape) for x in declared.values())) != held:
        raise FormatError(f"{path}: declares {total:,} bytes of tensors and holds {held:,}")
    return declared


def _parse_entry(path: Path, name: str, entry: object) -> Declared:
    dtype, shape = (entry.get("dtype"), entry.get("shape")) if isinstance(entry, dict) else (None, None)
    if (
        not isinstance(dtype, str)
        or dtype not in _BITS
        or not isinstance(shape, list)
        or not all(type(n) is int and n >= 0 for n in shape)
    ):
        raise FormatError(f"{path}: its header is broken: {name[:80]!r} has no type and shape that are known")
    return Declared(dtype, tuple(shape))


def count_numbers(path: Path) -> int:
    """Return the number of numbers in a safetensors file, from its header; a byte holds two of 4 bits.

    Raises FormatError as `read_header`.
    """
    return sum(math.prod(tensor.shape) * (2 if tensor.dtype == "U8" else 1) for tensor in read_header(path).values())


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file by name, mapped: their memory is that of the file.

    Raises:
        FormatError: The file cannot be read, is larger than a limit, or declares what it does not hold.
    """
    read_header(path)
    try:
        return safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise FormatError(f"{path}: cannot be read ({error})") from error

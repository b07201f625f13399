"""How many bytes the rows of Arrow arrays take as values of Python, before they are made."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from clara_search.errors import FormatError
from clara_search.files.limits import BATCH_BYTES

Sizes: TypeAlias = npt.NDArray[np.int64] | int
"""Of each value, or of all alike."""

_VALUE_BYTES = 8


def value_bytes(column: Any, where: str) -> Sizes:
    """Return the bytes of each value of a `pyarrow.Array`: eight for a number, those of a text, all that a list holds.

    Args:
        column: The array.
        where: Its file, for errors.

    Raises:
        FormatError: A list holds so many lists or texts that counting them would take more than `BATCH_BYTES`.
    """
    import pyarrow as pa
    from pyarrow import types

    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return value_bytes(column.storage, where)
    if types.is_dictionary(kind):
        sizes = _all(value_bytes(column.dictionary, where), column.dictionary)
        indices = column.indices.fill_null(0).to_numpy(zero_copy_only=False)
        return sizes[indices] if len(sizes) else _VALUE_BYTES
    if types.is_struct(kind):
        total: Sizes = _VALUE_BYTES
        for position in range(kind.num_fields):
            total = total + value_bytes(column.field(position), where)
        return total
    if types.is_fixed_size_list(kind):
        return _fixed_list_bytes(column, where)
    if types.is_list_view(kind) or types.is_large_list_view(kind):
        starts, lengths = (part.to_numpy() for part in (column.offsets, column.sizes))
        return _list_bytes(column.values, starts, lengths, where)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_map(kind):
        offsets = column.offsets.to_numpy().astype(np.int64)
        values = (
            column.values
            if not types.is_map(kind)
            else pa.StructArray.from_arrays([column.keys, column.items], ["key", "value"])
        )
        return _list_bytes(values, offsets[:-1], np.diff(offsets), where)
    if types.is_union(kind) or types.is_run_end_encoded(kind):
        parts = [column.values] if types.is_run_end_encoded(kind) else map(column.field, range(kind.num_fields))
        return sum(int(np.max(_all(value_bytes(part, where), part), initial=_VALUE_BYTES)) for part in parts)
    return _text_bytes(column, where)


def _text_bytes(column: Any, where: str) -> Sizes:
    from pyarrow import compute, types

    kind = column.type
    if types.is_string_view(kind) or types.is_binary_view(kind):
        _check_count(16 * len(column), where)
        lengths = (len(value.as_buffer()) if value.is_valid else 0 for value in column)
        return np.fromiter(lengths, np.int64, len(column)) + _VALUE_BYTES
    if types.is_fixed_size_binary(kind):
        return int(kind.byte_width) + _VALUE_BYTES
    if not (
        types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind)
    ):
        return _VALUE_BYTES
    _check_count(len(column), where)
    lengths = compute.binary_length(column).fill_null(0).to_numpy(zero_copy_only=False)
    return lengths.astype(np.int64) + _VALUE_BYTES  # type: ignore[no-any-return]


def _list_bytes(values: Any, starts: Any, lengths: Any, where: str) -> Sizes:
    """Return the bytes of lists: parts of `values`, each of a start and a length."""
    starts, lengths = starts.astype(np.int64), lengths.astype(np.int64)
    used = lengths > 0
    if not used.any():
        return _VALUE_BYTES
    first, last = int(starts[used].min()), int((starts + lengths)[used].max())
    sizes = value_bytes(values.slice(first, last - first), where)
    if isinstance(sizes, int):
        return lengths * sizes + _VALUE_BYTES  # type: ignore[no-any-return]
    _check_count(len(sizes), where)
    sums = np.concatenate(([0], np.cumsum(sizes)))
    starts = np.where(used, starts - first, 0)
    return sums[starts + np.where(used, lengths, 0)] - sums[starts] + _VALUE_BYTES  # type: ignore[no-any-return]


def _fixed_list_bytes(column: Any, where: str) -> Sizes:
    width = int(column.type.list_size)
    sizes = value_bytes(column.values.slice(column.offset * width, len(column) * width), where) if width else 0
    if isinstance(sizes, int):
        return sizes * width + _VALUE_BYTES
    return sizes.reshape(-1, width).sum(axis=1) + _VALUE_BYTES  # type: ignore[no-any-return]


def _all(sizes: Sizes, column: Any) -> npt.NDArray[np.int64]:
    return np.full(len(column), sizes) if isinstance(sizes, int) else sizes


def _check_count(count: int, where: str) -> None:
    if _VALUE_BYTES * count > BATCH_BYTES.value:
        raise FormatError(f"{where}: one batch of it holds {count:,} values in lists; write it in smaller batches")

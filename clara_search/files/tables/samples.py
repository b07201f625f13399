"""Recordings that a table holds decoded, as Hugging Face's `datasets` gives them: samples and their rate."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clara_search.files.tables.rows import Cell

_HEADER_BYTES = 44
_PCM, _FLOAT = 1, 3


@dataclass(frozen=True, slots=True)
class Samples(Cell):
    """A decoded recording, whose bytes are those of a WAV file.

    Attributes:
        value: The samples, a list or an array of Arrow: of numbers, or of a list of numbers for each channel.
        size: About the number of bytes.
        name: What the data calls the recording, None if it has no name.
        sample_rate: Hz.
    """

    sample_rate: int = 0

    def read(self) -> bytes:
        """Return the bytes of a WAV file; of what is no sound, one without samples."""
        samples = self._samples()
        channels = samples.shape[1]
        kind = _PCM if samples.dtype == np.int16 else _FLOAT
        rate = self.sample_rate if 0 < self.sample_rate < 1 << 31 else 0
        block = channels * samples.itemsize & 0xFFFF
        form = struct.pack(
            "<HHIIHH", kind, channels & 0xFFFF, rate, rate * block & 0xFFFFFFFF, block, 8 * samples.itemsize
        )
        size = struct.pack("<I", samples.nbytes & 0xFFFFFFFF)
        body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + size + samples.tobytes()
        return b"RIFF" + struct.pack("<I", len(body) & 0xFFFFFFFF) + body

    def head(self, count: int) -> bytes:
        """Return the first `count` bytes."""
        return self.read()[:count]

    def _samples(self) -> npt.NDArray[Any]:
        """Return the samples, shape (samples, channels), of int16 or float32."""
        channels = self.value if _is_nested(self.value) else [self.value]
        try:
            arrays = [_numbers(channel) for channel in channels]
            samples = np.stack(arrays, axis=1)
            return np.ascontiguousarray(samples if samples.dtype == np.int16 else samples.astype(np.float32))
        except (TypeError, ValueError):
            return np.zeros((0, 1), np.float32)


def is_sample_struct(kind: Any) -> bool:
    """Tell whether a column of a type of Arrow holds decoded recordings: structs of `array` and `sampling_rate`."""
    from pyarrow import types

    if not types.is_struct(kind):
        return False
    array, rate = kind.get_field_index("array"), kind.get_field_index("sampling_rate")
    if array < 0 or rate < 0 or not types.is_integer(kind.field(rate).type):
        return False
    inner = kind.field(array).type
    for _ in range(2):
        if types.is_list(inner) or types.is_large_list(inner) or types.is_fixed_size_list(inner):
            inner = inner.value_type
            if types.is_floating(inner) or types.is_integer(inner):
                return True
    return False


def samples_of_scalar(value: Any) -> Samples | None:
    """Return the recording in a `pyarrow.StructScalar`, None if it has none."""
    array, rate = value["array"], value["sampling_rate"].as_py()
    if not array.is_valid or rate is None:
        return None
    path = value["path"].as_py() if "path" in value else None
    values = array.values
    return Samples(values, _HEADER_BYTES + values.nbytes, path or None, rate)


def samples_of_object(value: Any) -> Any:
    """Return a value of JSON: a recording, if it is an object of `array` and `sampling_rate`, else the value."""
    if not isinstance(value, Mapping):
        return value
    array, rate, path = value.get("array"), value.get("sampling_rate"), value.get("path")
    if not isinstance(array, list) or not isinstance(rate, int):
        return value
    return Samples(array, _HEADER_BYTES + 4 * len(array), path if path and isinstance(path, str) else None, rate)


def _is_nested(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and isinstance(value[0], list)
    from pyarrow import types

    return bool(types.is_nested(value.type))


def _numbers(channel: Any) -> npt.NDArray[Any]:
    if isinstance(channel, list):
        return np.asarray(channel, np.float32)
    values = getattr(channel, "values", channel)  # of a list in a list
    return values.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]

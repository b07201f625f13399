"""FAISS's files, checked field by field before FAISS opens them.

FAISS opens any kind of index that a file holds, also one that maps other files, and trusts its numbers.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from clara_search.errors import FormatError
from clara_search.retrieval.ann.faiss_search import import_faiss

_HEADER = "4siqqqBi"  # kind, dim, vectors, two unused numbers, is_trained, metric
_INNER_PRODUCT = 0


def write_index(index: Any, path: Path) -> None:
    """Write a FAISS index to a file."""
    import_faiss().write_index(index, str(path))


def check_flat_file(path: Path, dim: int, num_rows: int) -> None:
    """Check that a file holds an `IndexFlatIP`.

    Args:
        path: The file.
        dim: Length of the vectors.
        num_rows: Number of vectors.

    Raises:
        FormatError: It holds anything else.
    """
    _check_file(path, dim, num_rows, lambda fields: _check_flat(fields, dim, num_rows))


def check_ivf_file(path: Path, dim: int, num_rows: int, nlist: int) -> None:
    """Check that a file holds an `IndexIVFFlat` over an `IndexFlatIP`, with the row numbers 0 ... num_rows - 1.

    Args:
        path: The file.
        dim: Length of the vectors.
        num_rows: Number of vectors.
        nlist: Number of lists.

    Raises:
        FormatError: It holds anything else.
    """
    _check_file(path, dim, num_rows, lambda fields: _check_ivf(fields, dim, num_rows, nlist))


@dataclass
class _Fields:
    """The fields of a FAISS file, one after the other: little-endian, and not aligned."""

    file: BinaryIO

    def expect(self, layout: str, name: str, *expected: object) -> None:
        """Read fields of a `layout` of `struct`. Raises FormatError unless they are `expected`; None fits any."""
        content = self.file.read(struct.calcsize("<" + layout))
        if len(content) < struct.calcsize("<" + layout):
            raise FormatError("it is cut short")
        values = struct.unpack("<" + layout, content)
        if any(wanted not in (None, value) for wanted, value in zip(expected, values, strict=True)):
            raise FormatError(f"its {name} is {values}")

    def integers(self, count: int) -> npt.NDArray[np.uint64]:
        """Read `count` integers of 64 bits."""
        content = self.file.read(8 * count)
        if len(content) < 8 * count:
            raise FormatError("it is cut short")
        return np.frombuffer(content, "<u8")

    def skip(self, num_bytes: int) -> None:
        """Skip bytes."""
        self.file.seek(num_bytes, os.SEEK_CUR)


def _check_file(path: Path, dim: int, num_rows: int, check: Callable[[_Fields], None]) -> None:
    """Run `check`, which reads a file up to its end."""
    size = path.stat().st_size
    try:
        if size < 4 * dim * num_rows:
            raise FormatError("it is cut short")
        with path.open("rb") as file:
            check(_Fields(file))
            if file.tell() != size:
                raise FormatError("it is cut short" if file.tell() > size else "there is more in it")
    except FormatError as error:
        raise FormatError(f"{path} is no index of {num_rows} vectors of {dim} numbers: {error}") from None


def _check_flat(fields: _Fields, dim: int, num_rows: int) -> None:
    fields.expect(_HEADER, "header", b"IxFI", dim, num_rows, None, None, 1, _INNER_PRODUCT)
    fields.expect("Q", "size", dim * num_rows)
    fields.skip(4 * dim * num_rows)


def _check_ivf(fields: _Fields, dim: int, num_rows: int, nlist: int) -> None:
    fields.expect(_HEADER, "header", b"IwFl", dim, num_rows, None, None, 1, _INNER_PRODUCT)
    fields.expect("QQ", "number of lists", nlist, None)
    _check_flat(fields, dim, nlist)
    fields.expect("BQ", "direct map", 0, 0)
    # Lists of this kind alone lie in the file itself.
    fields.expect("4sQQ", "kind of lists", b"ilar", nlist, 4 * dim)
    sizes = _list_sizes(fields, nlist)
    if int(sizes.max()) > num_rows or int(sizes.sum()) != num_rows:
        raise FormatError("its lists hold another number of vectors")
    row_numbers = []
    for size in sizes.tolist():
        fields.skip(4 * dim * size)
        row_numbers.append(fields.integers(size))
    if not np.array_equal(np.sort(np.concatenate(row_numbers)), np.arange(num_rows, dtype=np.uint64)):
        raise FormatError("its ids are not those of its rows")


def _list_sizes(fields: _Fields, nlist: int) -> npt.NDArray[np.uint64]:
    """Read the number of vectors in each list: of all lists, or of the non-empty ones behind their numbers."""
    kind, count = struct.unpack("<4sQ", fields.file.read(12).ljust(12))
    if kind == b"full" and count == nlist:
        return fields.integers(nlist)
    if kind != b"sprs" or count % 2 or count > 2 * nlist:
        raise FormatError(f"its sizes of lists are {kind!r}, {count}")
    numbers, sizes = fields.integers(count).reshape(-1, 2).T
    if (np.diff(numbers.astype(np.int64)) <= 0).any() or (numbers >= nlist).any():
        raise FormatError("its lists are out of order")
    return sizes

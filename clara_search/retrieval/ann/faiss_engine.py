"""How FAISS is called: inverted lists, search within some rows, threads."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from clara_search.errors import FormatError
from clara_search.models.base import Embeddings

_ROWS_A_LIST = 39  # what FAISS wants at least to train a list
_SEED = 0
_HEADER = "4siqqqBi"  # kind, dim, vectors, two that are not used, is it trained, metric
_INNER_PRODUCT = 0


def read_index(path: Path, dim: int, rows: int, lists: int) -> Any:
    """Return the index in the file at `path`.

    FAISS opens whatever kind of index a file holds, also one that maps other files, and trusts its numbers: so the
    file is checked before.

    Args:
        path: What `write_index` wrote.
        dim: Length of the vectors.
        rows: How many there are.
        lists: How many lists of an `ivf_index` they lie in; 0 for a `flat_index`.

    Raises:
        FormatError: The file holds anything else.
    """
    size = path.stat().st_size
    try:
        if size < 4 * dim * rows:
            raise FormatError("it is cut short")
        with path.open("rb") as file:
            _check_file(_Fields(file), dim, rows, lists)
            if file.tell() != size:
                raise FormatError("it is cut short" if file.tell() > size else "there is more in it")
    except FormatError as error:
        raise FormatError(f"{path} is no index of {rows} vectors of {dim} numbers: {error}") from None
    return _faiss().read_index(str(path))


def write_index(index: Any, path: Path) -> None:
    """Write `index` to a file."""
    _faiss().write_index(index, str(path))


@dataclass
class _Fields:
    """The fields of a file of FAISS, one after the other: little-endian, and not aligned."""

    file: BinaryIO

    def expect(self, layout: str, name: str, *expected: object) -> None:
        """Read fields of a `layout` of `struct`. Raises FormatError unless they are `expected`; None fits any."""
        content = self.file.read(struct.calcsize("<" + layout))
        if len(content) < struct.calcsize("<" + layout):
            raise FormatError("it is cut short")
        found = struct.unpack("<" + layout, content)
        if any(wanted not in (None, value) for wanted, value in zip(expected, found, strict=True)):
            raise FormatError(f"its {name} is {found}")

    def numbers(self, count: int) -> npt.NDArray[np.uint64]:
        """Read `count` integers of 64 bits."""
        content = self.file.read(8 * count)
        if len(content) < 8 * count:
            raise FormatError("it is cut short")
        return np.frombuffer(content, "<u8")

    def skip(self, count: int) -> None:
        """Pass over `count` bytes."""
        self.file.seek(count, os.SEEK_CUR)


def _check_file(fields: _Fields, dim: int, rows: int, lists: int) -> None:
    """Read a file up to its end. Raises FormatError unless it is as `write_index` leaves it."""
    if not lists:
        _check_flat(fields, dim, rows)
        return
    fields.expect(_HEADER, "header", b"IwFl", dim, rows, None, None, 1, _INNER_PRODUCT)
    fields.expect("QQ", "number of lists", lists, None)
    _check_flat(fields, dim, lists)
    fields.expect("BQ", "direct map", 0, 0)
    # These lists alone lie in the file itself.
    fields.expect("4sQQ", "kind of lists", b"ilar", lists, 4 * dim)
    sizes = _list_sizes(fields, lists)
    if int(sizes.max()) > rows or int(sizes.sum()) != rows:
        raise FormatError("its lists hold another number of vectors")
    ids = []
    for size in sizes.tolist():
        fields.skip(4 * dim * size)
        ids.append(fields.numbers(size))
    if not np.array_equal(np.sort(np.concatenate(ids)), np.arange(rows, dtype=np.uint64)):
        raise FormatError("its ids are not those of its rows")


def _check_flat(fields: _Fields, dim: int, rows: int) -> None:
    fields.expect(_HEADER, "header", b"IxFI", dim, rows, None, None, 1, _INNER_PRODUCT)
    fields.expect("Q", "size", dim * rows)
    fields.skip(4 * dim * rows)


def _list_sizes(fields: _Fields, lists: int) -> npt.NDArray[np.uint64]:
    """Read how many vectors each list holds: of all, or of those that are not empty behind their numbers."""
    kind, count = struct.unpack("<4sQ", fields.file.read(12).ljust(12))
    if kind == b"full" and count == lists:
        return fields.numbers(lists)
    if kind != b"sprs" or count % 2 or count > 2 * lists:
        raise FormatError(f"its sizes of lists are {kind!r}, {count}")
    numbers, sizes = fields.numbers(count).reshape(-1, 2).T
    if (np.diff(numbers.astype(np.int64)) <= 0).any() or (numbers >= lists).any():
        raise FormatError("its lists are out of order")
    return sizes


def flat_index(vectors: Embeddings) -> Any:
    """Return an index that holds `vectors`, shape (n, dim), and compares a query with each: exact."""
    faiss = _faiss()

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index


def ivf_index(vectors: Embeddings) -> Any:
    """Return an index that holds `vectors`, shape (n, dim), in about 4 sqrt(n) lists of neighbours."""
    faiss = _faiss()

    n, dim = vectors.shape
    lists = max(min(round(4 * n**0.5), n // _ROWS_A_LIST), 1)
    quantiser = faiss.IndexFlatIP(dim)
    index = faiss.IndexIVFFlat(quantiser, dim, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = _SEED
    index.cp.min_points_per_centroid = 1  # few rows are no reason for a warning: recall is measured
    index.cp.spherical = True  # the vectors are unit vectors
    index.train(vectors)
    index.add(vectors)
    return index


def search(
    index: Any, queries: Embeddings, k: int, nprobe: int, among: npt.NDArray[np.bool_] | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return scores and row numbers of the best `k` for each query, both of shape (q, k); -1 where there are fewer.

    Inverted lists are looked into `nprobe` at a time. Only the rows `among` count, where given, a flag for each.
    """
    faiss = _faiss()

    selector = None if among is None else faiss.IDSelectorBitmap(np.packbits(among, bitorder="little"))

    if isinstance(index, faiss.IndexIVF):
        parameters = faiss.SearchParametersIVF(nprobe=nprobe, sel=selector)
    else:
        parameters = faiss.SearchParameters(sel=selector)
    with _threads(1 if len(queries) == 1 else None):
        return index.search(np.ascontiguousarray(queries), k, params=parameters)  # type: ignore[no-any-return]


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Run FAISS on `count` threads: a single query is slower on two than on one."""
    faiss = _faiss()

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count or before)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _faiss() -> Any:
    # Imported late, for it takes 0.3 s, and without its type stubs, which do not know what it does to its classes.
    return import_module("faiss")

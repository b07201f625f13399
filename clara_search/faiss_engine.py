"""How FAISS is called: inverted lists, search within some rows, threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clara_search.encoder import Embeddings

_ROWS_A_LIST = 39  # what FAISS wants at least to train a list
_SEED = 0


def read_index(path: Path) -> Any:
    """Return the index in the file at `path`. FAISS checks nothing: check the file before."""
    return _faiss().read_index(str(path))


def write_index(index: Any, path: Path) -> None:
    """Write `index` to a file."""
    _faiss().write_index(index, str(path))


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


def nearest(
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

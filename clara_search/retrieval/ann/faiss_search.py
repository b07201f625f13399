"""Calls to FAISS that its backends share: the import, threads, and search within a subset of rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np

from clara_search.models.base import Embeddings
from clara_search.retrieval.ann.base import Labels, Subset


def import_faiss() -> Any:
    """Return the module `faiss`."""
    # Imported late, for it takes 0.3 s, and without its type stubs, which do not know what it does to its classes.
    return import_module("faiss")


def search_faiss(
    index: Any, queries: Embeddings, k: int, parameters: Any, subset: Subset | None
) -> tuple[Embeddings, Labels]:
    """Return scores and row numbers of the nearest rows, as `AnnBackend.search` does.

    Args:
        index: A FAISS index.
        queries: Unit vectors, shape (q, dim).
        k: Number of neighbours.
        parameters: A `faiss.SearchParameters`; its selector is set here.
        subset: Rows that may be found, shape (n,); None for all.

    Returns:
        Inner products and row numbers, both of shape (q, k), best first; -1 where a query has fewer neighbours.
    """
    faiss = import_faiss()
    selector = None if subset is None else faiss.IDSelectorBitmap(np.packbits(subset, bitorder="little"))
    parameters.sel = selector
    with _threads(1 if len(queries) == 1 else None):
        return index.search(np.ascontiguousarray(queries), k, params=parameters)  # type: ignore[no-any-return]


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Run FAISS on `count` threads: a single query is slower on two than on one."""
    faiss = import_faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count or before)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)

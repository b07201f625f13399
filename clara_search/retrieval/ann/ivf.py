"""The backend "ivf": lists of neighbours (an inverted file), of which a query visits the nearest few."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from clara_search.errors import FormatError
from clara_search.models.base import Embeddings
from clara_search.retrieval.ann.base import Labels, Subset
from clara_search.retrieval.ann.faiss_files import check_ivf_file, write_index
from clara_search.retrieval.ann.faiss_search import import_faiss, search_faiss

_MIN_ROWS_PER_LIST = 39  # FAISS wants as many to train a list
_SAMPLED_ROWS_PER_LIST = 64  # k-means needs no more; with 256, FAISS's default, it takes four times as long
_ROWS_PER_BLOCK = 8192
_SEED = 0


class IvfBackend:
    """A `faiss.IndexIVFFlat` of about 4 sqrt(n) lists; the effort is `nprobe`, the number of lists to visit."""

    def __init__(self, index: Any):
        self.index = index
        nlist = int(index.nlist)
        self.params = {"nlist": nlist}
        self.efforts = range(1, nlist + 1)

    @classmethod
    def build(cls, vectors: Embeddings) -> Self:
        """Build the index over `vectors`, shape (n, dim)."""
        faiss = import_faiss()
        num_rows, dim = vectors.shape
        nlist = max(min(round(4 * num_rows**0.5), num_rows // _MIN_ROWS_PER_LIST), 1)
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, nlist, faiss.METRIC_INNER_PRODUCT)
        index.cp.seed = _SEED
        index.cp.max_points_per_centroid = _SAMPLED_ROWS_PER_LIST
        index.cp.min_points_per_centroid = 1  # few rows are no reason for a warning: recall is measured
        index.cp.spherical = True  # the vectors are unit vectors
        index.train(vectors)
        _, nearest = index.quantizer.search(vectors, 1)
        # Two lists can be equally near, and rounding then decides: equal vectors go to the list of the first of them.
        lists = np.ascontiguousarray(nearest.ravel()[_first_equal(vectors)])
        index.add_core(num_rows, faiss.swig_ptr(vectors), None, faiss.swig_ptr(lists))
        return cls(index)

    def search(
        self, queries: Embeddings, k: int, effort: int, subset: Subset | None = None
    ) -> tuple[Embeddings, Labels]:
        """Return scores and row numbers of the nearest rows of `effort` lists, both of shape (q, k)."""
        return search_faiss(self.index, queries, k, import_faiss().SearchParametersIVF(nprobe=effort), subset)

    def reconstruct(self, labels: Labels) -> Embeddings:
        """Return the vectors of the rows `labels`, shape (m, dim)."""
        if self.index.direct_map.no():
            self.index.make_direct_map()  # from row numbers to places in lists
        return self.index.reconstruct_batch(labels)  # type: ignore[no-any-return]

    def save(self, path: Path) -> None:
        """Write the index to `path`."""
        self.index.set_direct_map_type(import_faiss().DirectMap.NoMap)
        write_index(self.index, path)

    @classmethod
    def load(cls, path: Path, dim: int, num_rows: int, params: Mapping[str, int]) -> Self:
        """Read what `save` wrote. Raises FormatError for anything else."""
        nlist = params.get("nlist", 0)
        if set(params) != {"nlist"} or not 1 <= nlist <= num_rows:
            raise FormatError(f"an ivf index of {num_rows} rows has 1 to {num_rows} lists (nlist), got {dict(params)}")
        check_ivf_file(path, dim, num_rows, nlist)
        index = import_faiss().read_index(str(path))
        index.make_direct_map()  # before several threads search
        return cls(index)


def _first_equal(vectors: Embeddings) -> Labels:
    """Return for each row of `vectors`, shape (n, dim), the number of the first row that is equal to it.

    Rows are compared by a sum of 64 bits, which is exact: rows that share one without being equal lose a little recall.
    """
    weights = np.random.default_rng(_SEED).integers(1, 1 << 63, vectors.shape[1], dtype=np.uint64)
    sums = np.empty(len(vectors), dtype=np.uint64)
    for start in range(0, len(vectors), _ROWS_PER_BLOCK):
        block = np.ascontiguousarray(vectors[start : start + _ROWS_PER_BLOCK])
        sums[start : start + _ROWS_PER_BLOCK] = (block.view(np.uint32) * weights).sum(axis=1)
    _, first, group = np.unique(sums, return_index=True, return_inverse=True)
    return first[group]

"""The backend "ivf": lists of neighbours (an inverted file), of which a query visits the nearest few."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from clara_search.errors import FormatError
from clara_search.models.base import Embeddings
from clara_search.retrieval.ann.base import Labels, Subset
from clara_search.retrieval.ann.faiss_files import check_ivf_file, write_index
from clara_search.retrieval.ann.faiss_search import import_faiss, search_faiss

_MIN_ROWS_PER_LIST = 39  # FAISS wants as many to train a list
_SEED = 0


class IvfBackend:
    """A `faiss.IndexIVFFlat` of about 4 sqrt(n) lists; the effort is `nprobe`, the number of lists to visit."""

    def __init__(self, index: Any):
        self.index = index
        nlist = int(index.nlist)
        self.params = {"nlist": nlist}
        self.efforts = (*(1 << bit for bit in range((nlist - 1).bit_length())), nlist)

    @classmethod
    def build(cls, vectors: Embeddings) -> Self:
        """Build the index over `vectors`, shape (n, dim)."""
        faiss = import_faiss()
        num_rows, dim = vectors.shape
        nlist = max(min(round(4 * num_rows**0.5), num_rows // _MIN_ROWS_PER_LIST), 1)
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, nlist, faiss.METRIC_INNER_PRODUCT)
        index.cp.seed = _SEED
        index.cp.min_points_per_centroid = 1  # few rows are no reason for a warning: recall is measured
        index.cp.spherical = True  # the vectors are unit vectors
        index.train(vectors)
        index.add(vectors)
        return cls(index)

    def search(
        self, queries: Embeddings, k: int, effort: int, subset: Subset | None = None
    ) -> tuple[Embeddings, Labels]:
        """Return scores and row numbers of the nearest rows of `effort` lists, both of shape (q, k)."""
        return search_faiss(self.index, queries, k, import_faiss().SearchParametersIVF(nprobe=effort), subset)

    def save(self, path: Path) -> None:
        """Write the index to `path`."""
        write_index(self.index, path)

    @classmethod
    def load(cls, path: Path, dim: int, num_rows: int, params: Mapping[str, int]) -> Self:
        """Read what `save` wrote. Raises FormatError for anything else."""
        nlist = params.get("nlist", 0)
        if set(params) != {"nlist"} or not 1 <= nlist <= num_rows:
            raise FormatError(f"an ivf index of {num_rows} rows has 1 to {num_rows} lists (nlist), got {dict(params)}")
        check_ivf_file(path, dim, num_rows, nlist)
        return cls(import_faiss().read_index(str(path)))

"""The backend "flat": every vector, compared with each query. Exact."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from clara_search.errors import FormatError
from clara_search.models.base import Embeddings
from clara_search.retrieval.ann.base import Labels, Subset
from clara_search.retrieval.ann.faiss_files import check_flat_file, write_index
from clara_search.retrieval.ann.faiss_search import import_faiss, search_faiss


class FlatBackend:
    """A `faiss.IndexFlatIP`. It has one effort and no parameters."""

    efforts = (1,)

    def __init__(self, index: Any):
        self.index = index
        self.params: dict[str, int] = {}

    @classmethod
    def build(cls, vectors: Embeddings) -> Self:
        """Build the index over `vectors`, shape (n, dim)."""
        index = import_faiss().IndexFlatIP(vectors.shape[1])
        index.add(vectors)
        return cls(index)

    def search(
        self, queries: Embeddings, k: int, effort: int, subset: Subset | None = None
    ) -> tuple[Embeddings, Labels]:
        """Return scores and row numbers of the nearest rows, both of shape (q, k)."""
        return search_faiss(self.index, queries, k, import_faiss().SearchParameters(), subset)

    def reconstruct(self, labels: Labels) -> Embeddings:
        """Return the vectors of the rows `labels`, shape (m, dim)."""
        return self.index.reconstruct_batch(labels)  # type: ignore[no-any-return]

    def save(self, path: Path) -> None:
        """Write the index to `path`."""
        write_index(self.index, path)

    @classmethod
    def load(cls, path: Path, dim: int, num_rows: int, params: Mapping[str, int]) -> Self:
        """Read what `save` wrote. Raises FormatError for anything else."""
        if params:
            raise FormatError(f"a flat index has no parameters, got {dict(params)}")
        check_flat_file(path, dim, num_rows)
        return cls(import_faiss().read_index(str(path)))

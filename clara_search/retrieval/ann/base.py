"""The protocol of an ANN backend: one file a backend, named in `registry.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from clara_search.models.base import Embeddings

Labels = npt.NDArray[np.int64]
"""Row numbers of the vectors that a backend was built over, -1 where a query has fewer neighbours than asked for."""
Subset = npt.NDArray[np.bool_]
"""A flag for each row of a backend: whether it may be found."""


class AnnBackend(Protocol):
    """An index over n unit vectors, numbered 0 ... n - 1, that finds the nearest by inner product.

    Tuning, files, checksums and rows that change after the build are handled by the callers: a backend only has to
    answer for the vectors that it was built over.
    """

    @property
    def params(self) -> Mapping[str, int]:
        """The parameters of the build, as `meta.json` keeps them: {"nlist": 64}."""

    @property
    def efforts(self) -> Sequence[int]:
        """The search efforts to choose from, the fastest first; at the last one every row is found."""

    @classmethod
    def build(cls, vectors: Embeddings) -> Self:
        """Build the index. The same vectors give the same index.

        Args:
            vectors: Unit vectors, shape (n, dim), n > 0.

        Returns:
            The index in memory.
        """

    def search(
        self, queries: Embeddings, k: int, effort: int, subset: Subset | None = None
    ) -> tuple[Embeddings, Labels]:
        """Return the nearest rows of each query.

        Args:
            queries: Unit vectors, shape (q, dim).
            k: Number of neighbours, at least 1.
            effort: One of `efforts`.
            subset: Rows that may be found, shape (n,); None for all.

        Returns:
            Inner products and row numbers, both of shape (q, k), best first.
        """

    def reconstruct(self, labels: Labels) -> Embeddings:
        """Return vectors by row number, as exact as the index keeps them: they decide about the order of the hits.

        Args:
            labels: Row numbers, shape (m,).

        Returns:
            The vectors, shape (m, dim); equal ones of rows that were built over equal vectors.
        """

    def save(self, path: Path) -> None:
        """Write the index to one file.

        Args:
            path: A file that does not exist yet.
        """

    @classmethod
    def load(cls, path: Path, dim: int, num_rows: int, params: Mapping[str, int]) -> Self:
        """Read what `save` wrote. The file may be forged: whoever made the database wrote its checksum too.

        Args:
            path: The file.
            dim: Length of the vectors.
            num_rows: Number of vectors.
            params: `params` of the index that was saved, from a file that may be forged as well.

        Returns:
            The index in memory.

        Raises:
            FormatError: The file does not hold an index of this backend, size and parameters.
        """

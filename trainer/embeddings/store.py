"""Vectors on disk by SHA-256: two files that only grow, one of vectors and one of the digests they belong to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clara_search.errors import FormatError
from clara_search.models.base import Embeddings

_DIGEST_BYTES = 32


class EmbeddingStore:
    """Vectors in `folder` by the SHA-256 of their content; opening it cuts off a vector that was written in part."""

    def __init__(self, folder: Path, dim: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._dim, self._keys, self._values = dim, folder / "keys.sha256", folder / "vectors.f32"
        for path in (self._keys, self._values):
            path.touch()
        count = min(self._keys.stat().st_size // _DIGEST_BYTES, self._values.stat().st_size // (4 * dim))
        os.truncate(self._keys, count * _DIGEST_BYTES)
        os.truncate(self._values, count * 4 * dim)
        keys = self._keys.read_bytes()
        self._rows = {
            keys[start : start + _DIGEST_BYTES]: start // _DIGEST_BYTES for start in range(0, len(keys), _DIGEST_BYTES)
        }

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._rows

    def add(self, digests: Sequence[bytes], vectors: Embeddings) -> None:
        """Append `vectors`, shape (n, dim), and then their n digests: a vector counts once its digest is written."""
        with self._values.open("ab") as values, self._keys.open("ab") as keys:
            values.write(np.ascontiguousarray(vectors, dtype="<f4").tobytes())
            values.flush()
            keys.write(b"".join(digests))
        first = self._keys.stat().st_size // _DIGEST_BYTES - len(digests)
        self._rows.update({digest: first + row for row, digest in enumerate(digests)})

    def vectors(self, digests: Sequence[bytes]) -> Embeddings:
        """Return the vectors of `digests`, shape (n, dim), from the memory-mapped file.

        Raises FormatError where they are not finite, or zero.
        """
        if not digests:
            return np.zeros((0, self._dim), np.float32)
        mapped = np.memmap(self._values, "<f4", "r").reshape(-1, self._dim)
        vectors = np.asarray(mapped[[self._rows[digest] for digest in digests]], dtype=np.float32)
        if not np.isfinite(vectors).all() or not vectors.any(axis=1).all():  # after a power cut, say
            raise FormatError(f"{self._values.parent}: holds broken vectors; delete that folder")
        return vectors

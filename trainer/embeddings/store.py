"""Vectors on disk, by what they are of: two files that only grow, of vectors and of the SHA-256 of their contents."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clara_search.errors import FormatError
from clara_search.models.base import Embeddings

_DIGEST = 32


class EmbeddingStore:
    """Vectors in `folder`, by the SHA-256 of what they are of; what was written half is cut off when it is opened."""

    def __init__(self, folder: Path, dim: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._dim, self._keys, self._values = dim, folder / "keys.sha256", folder / "vectors.f32"
        for path in (self._keys, self._values):
            path.touch()
        count = min(self._keys.stat().st_size // _DIGEST, self._values.stat().st_size // (4 * dim))
        os.truncate(self._keys, count * _DIGEST)
        os.truncate(self._values, count * 4 * dim)
        content = self._keys.read_bytes()
        self._rows = {content[at : at + _DIGEST]: at // _DIGEST for at in range(0, len(content), _DIGEST)}

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._rows

    def add(self, digests: Sequence[bytes], vectors: Embeddings) -> None:
        """Write `vectors`, shape (n, dim), behind the others: they count once their digests are written too."""
        with self._values.open("ab") as values, self._keys.open("ab") as keys:
            values.write(np.ascontiguousarray(vectors, dtype="<f4").tobytes())
            values.flush()
            keys.write(b"".join(digests))
        first = self._keys.stat().st_size // _DIGEST - len(digests)
        self._rows.update({digest: first + place for place, digest in enumerate(digests)})

    def vectors(self, digests: Sequence[bytes]) -> Embeddings:
        """Return the vectors of `digests`, shape (n, dim), from the memory-mapped file.

        Raises FormatError where they are not finite, or zero.
        """
        if not digests:
            return np.zeros((0, self._dim), np.float32)
        mapped = np.memmap(self._values, "<f4", "r").reshape(-1, self._dim)
        found = np.asarray(mapped[[self._rows[digest] for digest in digests]], dtype=np.float32)
        if not np.isfinite(found).all() or not found.any(axis=1).all():  # after a power cut, say
            raise FormatError(f"{self._values.parent}: holds vectors that are broken; delete that folder")
        return found

from __future__ import annotations

import numpy as np
import pytest

from indexer.sources.embedding_files import to_unit_norm


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 3.0, 1e30, 1e300])
def test_vectors_of_any_length_become_unit_vectors(scale: float) -> None:
    vectors = to_unit_norm(scale * np.array([[1.0, 0.0, 0.0], [0.0, 3.0, 4.0]]), "v.npy, row 0")
    np.testing.assert_allclose(vectors, [[1.0, 0.0, 0.0], [0.0, 0.6, 0.8]], atol=1e-7)
    assert vectors.dtype == np.float32

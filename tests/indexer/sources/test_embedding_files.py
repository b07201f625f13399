from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from clara_search.errors import FormatError
from indexer.sources.embedding_files import EmbeddingFiles, read_entries, to_unit_norm


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 3.0, 1e30, 1e300])
def test_vectors_of_any_length_become_unit_vectors(scale: float) -> None:
    vectors = to_unit_norm(scale * np.array([[1.0, 0.0, 0.0], [0.0, 3.0, 4.0]]), "v.npy, row 0")
    np.testing.assert_allclose(vectors, [[1.0, 0.0, 0.0], [0.0, 0.6, 0.8]], atol=1e-7)
    assert vectors.dtype == np.float32


def _header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(32)


@pytest.mark.parametrize(
    "matrix",
    [
        _header("(" * 100),
        _header("{'descr':'<f4','fortran_order':False,'shape':(2,True),}"),
        _header("{'descr':'|O','fortran_order':False,'shape':(2,4),}"),
        _header("{'descr':'<f4','fortran_order':False,'shape':(99999999999,4),}"),
    ],
)
def test_a_broken_matrix_is_an_error_of_one_line(matrix: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.npy").write_bytes(matrix)
    parquet.write_table(pa.table({"path": ["a.wav", "b.wav"]}), tmp_path / "m.parquet")
    with pytest.raises(FormatError, match="cannot be read"):
        list(EmbeddingFiles(tmp_path / "m.npy", tmp_path / "m.parquet").batches(4))


def test_texts_that_are_not_utf_8_are_an_error_of_one_line(tmp_path: Path) -> None:
    offsets = pa.py_buffer(np.array([0, 2, 4], np.int32).tobytes())
    texts = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"\xff\xfeab")])
    parquet.write_table(pa.table({"path": texts}), tmp_path / "m.parquet")
    np.save(tmp_path / "m.npy", np.eye(2, 4, dtype=np.float32))
    with pytest.raises(FormatError, match="UTF8"):
        list(EmbeddingFiles(tmp_path / "m.npy", tmp_path / "m.parquet").batches(4))
    with pytest.raises(FormatError, match="UTF8"):
        read_entries(tmp_path / "m.parquet")

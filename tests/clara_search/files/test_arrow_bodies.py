"""What Arrow files declare of their batches, against what they take once they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from clara_search.errors import FormatError
from clara_search.files.arrow_bodies import open_batches

TABLE = pa.table({"a": ["x" * 1000] * 5000, "n": range(5000), "d": pa.array(["q" * 100] * 5000).dictionary_encode()})


def written(path: Path, kind: Any, compression: str | None) -> Any:
    with kind(path, TABLE.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(TABLE, max_chunksize=1000)
    return pa.memory_map(str(path))


@pytest.mark.parametrize("kind", [pa.ipc.new_file, pa.ipc.new_stream])
@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_a_batch_is_as_large_as_it_declares(tmp_path: Path, kind: Any, compression: str | None) -> None:
    largest = max(batch.nbytes for batch in TABLE.to_batches(max_chunksize=1000))
    with written(tmp_path / "a.arrow", kind, compression) as file:
        assert open_batches(file, "a.arrow", largest + 1024).read_all().equals(TABLE)
    message = r"a\.arrow: a batch of it takes 1,0\d\d,\d+ bytes, where at most 999,999"
    with written(tmp_path / "a.arrow", kind, compression) as file, pytest.raises(FormatError, match=message):
        open_batches(file, "a.arrow", 999_999)

"""Decoded recordings in tables: the samples that are indexed are those of the table."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from clara_search.datasets.manifests import Manifest

RATE = 22_050
MONO = np.sin(np.arange(1000) / 9).astype(np.float32)
STEREO = np.stack([MONO, -0.5 * MONO])


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    if path.suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        return str(path)
    table = pa.Table.from_pylist(rows)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_stream(path, table.schema) as stream:
            stream.write_table(table)
    return str(path)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".jsonl"])
@pytest.mark.parametrize("samples", [MONO, STEREO], ids=["mono", "stereo"])
def test_decoded_recordings_keep_their_samples_rate_and_name(suffix: str, samples: np.ndarray, tmp_path: Path) -> None:
    audio = {"array": samples.tolist(), "sampling_rate": RATE, "path": "clip_0.wav"}
    rows = [{"text": "one", "clip": audio, "speaker": "a"}, {"text": "two", "clip": None, "speaker": "b"}]
    first, second = Manifest(written(tmp_path / f"m{suffix}", rows)).rows()
    assert first.content is not None
    decoded, rate = soundfile.read(io.BytesIO(first.content.read()), dtype="float32")
    assert rate == RATE
    np.testing.assert_array_equal(decoded, samples.T)
    assert (first.path, first.texts, dict(first.columns)) == ("clip_0.wav", ("one",), {"speaker": "a"})
    assert (second.content, second.texts) == (None, ("two",))

"""Tables in memory: sources like files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

import clara_search
from clara_search.store.database import Database
from indexer.pipeline import index
from tests.helpers import ToneEncoder, write_tone


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        write_tone(tmp_path / f"{name}.wav", 300)
    return tmp_path


def test_recordings_inside_a_table_keep_their_names(sounds: Path, database: Database) -> None:
    wav = (sounds / "a.wav").read_bytes()
    table = pa.table({"speech": [{"bytes": wav, "path": "clip_0.wav"}], "path": ["clips/clip_0.wav"], "text": ["hum"]})
    parquet.write_table(table, sounds / "m.parquet")
    index([sounds / "m.parquet", table], database, ToneEncoder())
    rows = database.table().scan(["uri", "kind", "source_path"]).sort_by("uri").to_pylist()
    assert [Path(row["uri"]).name for row in rows] == ["clip_0.wav", "clip_0.wav"]
    assert rows[0]["uri"] == f"{sounds / 'm.parquet'}#L1/clip_0.wav"
    assert {(row["kind"], row["source_path"]) for row in rows} == {("audio", "clips/clip_0.wav")}


def test_a_data_frame_is_a_source_like_a_file(sounds: Path, database: Database) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"path": [str(sounds / "a.wav"), None], "text": ["one", "two"], "mixed": [1, "x"], "year": [1999, None]},
        index=["r1", "r2"],
    )
    summary = clara_search.index(frame, database, ToneEncoder())
    assert (summary.indexed, summary.failed, summary.rows) == (2, 0, 2)
    rows = database.table().scan(["kind", "text", "mixed", "year"]).sort_by("text").to_pylist()
    assert rows == [
        {"kind": "audio", "text": "one", "mixed": "1", "year": 1999.0},
        {"kind": "text", "text": "two", "mixed": "x", "year": None},
    ]
    assert clara_search.index(frame, database, ToneEncoder()).unchanged == 2
    longer = pandas.concat([frame, frame.assign(text="three")[1:]])
    summary = clara_search.index([longer, sounds / "b.wav"], database, ToneEncoder())
    assert (summary.indexed, summary.unchanged) == (2, 2)

"""Several captions of a recording: one recording, found by each of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import clara_search
from clara_search.store.database import Database
from indexer.import_export import export_embeddings, import_embeddings
from indexer.pipeline import index
from indexer.write.relocate import relocate_rows
from tests.helpers import ToneEncoder, write_tone

CAPTIONS = ["a dog barks", "a hound howls", "rain"]


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        write_tone(tmp_path / f"{name}.wav", 300)
    return tmp_path


@pytest.mark.parametrize("way", ["rows", "scattered rows", "columns", "list", "table"])
def test_a_recording_with_several_captions_is_found_by_each(way: str, sounds: Path, database: Database) -> None:
    rows = [("a.wav", text) for text in CAPTIONS]
    source: Any = sounds / "m.csv"
    if way == "rows":
        source.write_text("path,text\n" + "".join(f"{path},{text}\n" for path, text in rows))
    elif way == "scattered rows":
        rows.insert(1, ("b.wav", "wind"))
        source.write_text("path,text\n" + "".join(f"{path},{text}\n" for path, text in rows))
    elif way == "columns":
        source.write_text(f"path,caption_1,caption_2,caption_3\na.wav,{','.join(CAPTIONS)}\n")
    elif way == "list":
        source = sounds / "m.jsonl"
        source.write_text(json.dumps({"path": "a.wav", "captions": CAPTIONS}) + "\n")
    else:
        source = pa.table({"path": [str(sounds / "a.wav")] * 3, "text": CAPTIONS})
    recordings = 2 if way == "scattered rows" else 1
    summary = index(source, database, ToneEncoder())
    assert (summary.indexed, summary.failed, summary.rows) == (recordings, 0, recordings + 3)
    found = clara_search.open(database.path, encoder=ToneEncoder())
    for text in CAPTIONS:
        hit = found.search(text, k=1)[0]
        assert (hit.uri, hit.text, hit.start_s, hit.end_s) == (str(sounds / "a.wav"), text, 0.0, 1.0)
    (row,) = database.table().scan(["text", "captions"], "kind = 'audio' AND array_has(captions, 'rain')").to_pylist()
    assert row == {"text": CAPTIONS[0], "captions": CAPTIONS}
    assert index(source, database, ToneEncoder()).unchanged == recordings


def test_captions_go_and_come_with_their_recording(sounds: Path, database: Database) -> None:
    manifest = sounds / "m.csv"
    manifest.write_text(
        "path,text\na.wav,one\na.wav,two\na.wav,three\nb.wav,one\nb.wav,two\nmissing.wav,x\nmissing.wav,y\n"
    )
    encoder = ToneEncoder()
    summary = index(manifest, database, encoder)
    assert (summary.indexed, summary.failed, summary.rows) == (2, 1, 7)
    manifest.write_text("path,text\na.wav,one\na.wav,four\n")
    summary = index(manifest, database, encoder, prune=True)
    assert (summary.indexed, summary.removed, summary.rows) == (1, 4, 3)
    texts = database.table().scan(["text"], "kind = 'text'")["text"].to_pylist()
    assert sorted(texts) == ["four", "one"]
    (sounds / "copy.wav").write_bytes((sounds / "a.wav").read_bytes())
    (sounds / "n.csv").write_text("path,text\ncopy.wav,five\ncopy.wav,six\n")
    summary = index(sounds / "n.csv", database, encoder)
    assert (summary.indexed, summary.reused, summary.rows) == (1, 1, 6)
    vectors = database.table().scan(["text", "vector"], "kind = 'text' AND text = 'six'").to_pylist()
    np.testing.assert_allclose(vectors[0]["vector"], encoder.encode_text(["six"], None)[0], atol=1e-6)


def test_captions_are_exported_imported_and_moved_with_their_recording(sounds: Path, database: Database) -> None:
    (sounds / "in").mkdir()
    (sounds / "a.wav").rename(sounds / "in" / "a.wav")
    (sounds / "in" / "m.csv").write_text("path,text\na.wav,one\na.wav,two\n")
    index(sounds / "in" / "m.csv", database, ToneEncoder())
    export_embeddings(database, sounds / "out")
    folder = sounds / "out"
    import_embeddings(folder / "embeddings", folder / "metadata", sounds / "copy", ToneEncoder())
    columns = ["id", "kind", "uri", "text", "captions", "start_s", "end_s", "content_hash"]
    rows = database.table().scan(columns).sort_by("id")
    assert Database(sounds / "copy").table().scan(columns).sort_by("id") == rows
    assert index(sounds / "in" / "m.csv", sounds / "copy", ToneEncoder()).unchanged == 1
    (sounds / "new").mkdir()
    (sounds / "in" / "a.wav").rename(sounds / "new" / "a.wav")
    summary = index(sounds / "new", database, ToneEncoder())
    assert (summary.indexed, summary.reused, summary.rows) == (1, 1, 3)
    rows = database.table().scan(["uri", "kind", "text"]).sort_by("text").to_pylist()
    assert [row["text"] for row in rows] == ["one", "one", "two"]
    assert {row["uri"] for row in rows} == {str(sounds / "new" / "a.wav")}
    assert index(sounds / "new", database, ToneEncoder()).unchanged == 1
    ids = set(database.table().scan(["id"])["id"].to_pylist())
    (sounds / "new").rename(sounds / "moved")
    relocate_rows(database, sounds / "new", sounds / "moved")
    summary = index(sounds / "moved", database, ToneEncoder())
    assert (summary.unchanged, summary.rows, summary.removed) == (1, 3, 0)
    assert ids.isdisjoint(database.table().scan(["id"])["id"].to_pylist())

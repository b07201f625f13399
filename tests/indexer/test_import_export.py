from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import indexer
from clara_search.errors import EncoderMismatch, FormatError, OutputError
from clara_search.store.database import Database
from indexer import Recording, export_embeddings, import_embeddings
from indexer.ledger.failures import failures
from tests.helpers import DIM, ToneEncoder, tone, write_tone


def vectors_by_id(database: Database) -> dict[str, list[float]]:
    return {row["id"]: row["vector"] for row in database.table().scan(["id", "vector"]).to_pylist()}


def test_what_was_exported_and_imported_is_the_same_and_is_not_embedded_again(
    tmp_path: Path, recordings: Path, database: Database, encoder: ToneEncoder
) -> None:
    write_tone(recordings / "long.wav", duration_s=22)
    indexer.index(recordings, database, encoder)
    assert export_embeddings(database, tmp_path / "out") == 7
    folders = tmp_path / "out" / "embeddings", tmp_path / "out" / "metadata"
    assert import_embeddings(*folders, tmp_path / "copy", ToneEncoder()) == 7
    copy = Database(tmp_path / "copy")
    before, after = vectors_by_id(database), vectors_by_id(copy)
    assert before.keys() == after.keys()
    np.testing.assert_allclose([after[id_] for id_ in before], list(before.values()), atol=1e-6)
    again = ToneEncoder()
    assert indexer.index(recordings, copy, again).unchanged == 4
    assert again.clips_encoded == 0
    with pytest.raises(OutputError, match="exists already"):
        export_embeddings(database, tmp_path / "out")


def test_embeddings_of_another_tool_are_brought_to_unit_norm(tmp_path: Path, encoder: ToneEncoder) -> None:
    vectors = np.random.default_rng(0).standard_normal((3, DIM)).astype(np.float16)
    np.save(tmp_path / "img_emb_0.npy", vectors)
    table = pa.table({"image_path": ["a.wav", "b.wav", None], "caption": ["a dog", None, "rain"], "label": [1, 2, 3]})
    parquet.write_table(table, tmp_path / "metadata_0.parquet")
    import_embeddings(tmp_path / "img_emb_0.npy", tmp_path / "metadata_0.parquet", tmp_path / "db", encoder)
    rows = Database(tmp_path / "db").table().scan(["kind", "uri", "text", "label", "vector"]).to_pylist()
    rows.sort(key=lambda row: row["label"])
    assert [(row["kind"], row["text"], row["label"]) for row in rows] == [
        ("audio", "a dog", 1),
        ("audio", None, 2),
        ("text", "rain", 3),
    ]
    np.testing.assert_allclose([np.linalg.norm(row["vector"]) for row in rows], 1.0, atol=1e-6)


def test_files_that_do_not_fit_together_are_named(tmp_path: Path, encoder: ToneEncoder) -> None:
    np.save(tmp_path / "v.npy", np.ones((3, DIM), np.float32))
    parquet.write_table(pa.table({"path": ["a.wav", "b.wav"]}), tmp_path / "m.parquet")
    with pytest.raises(FormatError, match=r"v.npy has shape \(3, 16\), .*m.parquet has 2 rows"):
        import_embeddings(tmp_path / "v.npy", tmp_path / "m.parquet", tmp_path / "db", encoder)
    np.save(tmp_path / "v.npy", np.array([[1.0] * DIM, [np.nan] * DIM]))
    with pytest.raises(FormatError, match=r"row 0 \+ 1: the vector is zero or not finite"):
        import_embeddings(tmp_path / "v.npy", tmp_path / "m.parquet", tmp_path / "db", encoder)
    with pytest.raises(EncoderMismatch):
        import_embeddings(tmp_path / "v.npy", tmp_path / "m.parquet", tmp_path / "db", ToneEncoder("2"))


def test_arrays_in_memory_are_indexed_under_their_names(tmp_path: Path, encoder: ToneEncoder) -> None:
    sources = [
        Recording("call/1", tone(440, 12.0), 16_000, text="a tone", columns={"take": 1}),
        Recording("call/2", np.stack([tone(1000, 1.0, 8_000)] * 2, axis=1), 8_000),
        Recording("call/3", np.zeros(0, np.float32), 16_000),
    ]
    summary = indexer.index(sources, tmp_path / "db", encoder)
    assert (summary.indexed, summary.failed, summary.rows) == (2, 1, 3)
    database = Database(tmp_path / "db")
    assert "has shape (0,)" in failures(database)[0]["reason"]
    rows = database.table().scan(["uri", "end_s", "text", "take"], "uri = 'call/1'").to_pylist()
    assert sorted(row["end_s"] for row in rows) == [10.0, 12.0]
    assert {(row["text"], row["take"]) for row in rows} == {("a tone", 1)}
    assert indexer.index(sources[:2], tmp_path / "db", encoder).unchanged == 2
    sources[0] = Recording("call/1", tone(880, 12.0), 16_000, text="a tone", columns={"take": 1})
    assert indexer.index(sources[:2], tmp_path / "db", encoder).indexed == 1

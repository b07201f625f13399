from __future__ import annotations

import hashlib
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import indexer
from clara_search.errors import EncoderMismatch, FormatError, OutputError
from clara_search.store.database import Database
from clara_search.store.schema import CORE_COLUMNS
from indexer import Recording, export_embeddings, import_embeddings
from indexer.ledger.failures import failures
from tests.helpers import DIM, ToneEncoder, tone, write_tone
from tests.tables import INFO


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


def exported(tmp_path: Path, vectors: Any = None, **columns: Any) -> tuple[Path, Path]:
    """Write metadata of another tool, and random vectors unless some are given."""
    table = pa.table(columns)
    vectors = np.random.default_rng(0).standard_normal((table.num_rows, DIM)) if vectors is None else vectors
    np.save(tmp_path / "v.npy", vectors)
    parquet.write_table(table, tmp_path / "m.parquet")
    return tmp_path / "v.npy", tmp_path / "m.parquet"


def all_rows(database: Database | Path) -> list[dict[str, Any]]:
    database = database if isinstance(database, Database) else Database(database)
    table = database.table()
    return sorted(table.scan(table.schema.names).to_pylist(), key=lambda row: str(row["id"]))


FURTHER = {
    "day": pa.array([date(2024, 1, 5), None], pa.date32()),
    "at": pa.array([datetime(2024, 1, 5, 10), None], pa.timestamp("us")),
    "at_utc": pa.array([datetime(2024, 1, 5, 10), None], pa.timestamp("us", "UTC")),
    "at_ns": pa.array([datetime(2024, 1, 5, 10), None], pa.timestamp("ns")),
    "clock": pa.array([time(10, 30), None], pa.time64("us")),
    "took": pa.array([timedelta(seconds=61), None], pa.duration("us")),
    "price": pa.array([Decimal("12.50"), None], pa.decimal128(10, 2)),
    "flag": pa.array([True, None]),
    "count": pa.array([2**62 + 1, None], pa.int64()),
    "small": pa.array([7, None], pa.int16()),
    "large": pa.array([2**63 + 5, None], pa.uint64()),
    "gain": pa.array([0.1, None], pa.float64()),
    "half": pa.array([0.5, None], pa.float32()),
    "tags": pa.array([["x", "y"], None], pa.list_(pa.string())),
    "numbers": pa.array([[1, 2], []], pa.list_(pa.int64())),
    "speaker": pa.array(["ann", None]).dictionary_encode(),
    "note": pa.array(["é", None], pa.large_string()),
    "blob": pa.array([b"\x00\x01", None], pa.binary()),
    "nothing": pa.nulls(2),
    "nested": pa.array([{"a": [1, None]}, None]),
}


def test_columns_of_all_types_are_kept_and_come_back_from_an_export_as_they_were(
    tmp_path: Path, encoder: ToneEncoder
) -> None:
    assert import_embeddings(*exported(tmp_path, path=["a.wav", "b.wav"], **FURTHER), tmp_path / "db", encoder) == 2
    row = next(row for row in all_rows(tmp_path / "db") if row["uri"] == str(tmp_path / "a.wav"))
    first = {name: column.to_pylist()[0] for name, column in FURTHER.items()}
    first |= {"nested": '{"a": [1, null]}'}
    assert {name: row[name] for name in FURTHER if name != "nothing"} == {
        name: value for name, value in first.items() if name != "nothing"
    }
    table = Database(tmp_path / "db").table()
    assert table.count("day >= '2024-01-01'") == table.count("array_has(tags, 'x')") == table.count("price > 12") == 1
    assert "nothing" not in table.schema.names
    export_embeddings(tmp_path / "db", tmp_path / "out")
    files = tmp_path / "out" / "embeddings", tmp_path / "out" / "metadata"
    assert import_embeddings(*files, tmp_path / "copy", encoder) == 2
    assert all_rows(tmp_path / "copy") == all_rows(tmp_path / "db")
    assert Database(tmp_path / "copy").table().schema.equals(table.schema, check_metadata=True)


def test_rows_of_all_kinds_of_sources_come_back_from_an_export_as_they_were(
    tmp_path: Path, recordings: Path, database: Database, encoder: ToneEncoder
) -> None:
    """Windows, segments, captions, texts, recordings in memory; nothing of them is embedded again."""
    write_tone(recordings / "long.wav", duration_s=22)
    (recordings / "m.csv").write_text("path,text,start_s,end_s,take\nlow.wav,one,0,0.5,1\n,words,,,2\n")
    (recordings / "captions.csv").write_text("path,text\nmiddle.flac,a tone\nmiddle.flac,a beep\n")
    sources = [
        recordings / "m.csv",
        recordings / "captions.csv",
        recordings,
        Recording("call/1", tone(440), 16_000, text="a tone"),
    ]
    indexer.index(sources, database, encoder, window_s=4, hop_s=2)
    count = database.table().count()
    assert export_embeddings(database, tmp_path / "out") == count
    files = tmp_path / "out" / "embeddings", tmp_path / "out" / "metadata"
    assert import_embeddings(*files, tmp_path / "copy", ToneEncoder()) == count
    np.testing.assert_allclose(
        [row.pop("vector") for row in all_rows(tmp_path / "copy")], [row["vector"] for row in all_rows(database)], 1e-6
    )
    copy, own = all_rows(tmp_path / "copy"), all_rows(database)
    assert [{**row, "vector": 0} for row in copy] == [{**row, "vector": 0} for row in own]
    again = ToneEncoder()
    summary = indexer.index(sources, tmp_path / "copy", again)
    assert (again.clips_encoded, summary.rows) == (0, count)
    with pytest.raises(EncoderMismatch, match=r"exported from a table of tone"):
        import_embeddings(*files, tmp_path / "other", ToneEncoder("2"))
    assert export_embeddings(_empty(tmp_path), tmp_path / "none") == 0
    files = tmp_path / "none" / "embeddings", tmp_path / "none" / "metadata"
    assert import_embeddings(*files, tmp_path / "copy", encoder) == 0


def _empty(tmp_path: Path) -> Database:
    database = Database(tmp_path / "empty", create=True)
    database.create_table("corpus", INFO)
    return database


def test_columns_with_names_of_the_table_are_kept_under_others(
    tmp_path: Path, encoder: ToneEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    files = exported(
        tmp_path,
        uri=["a.wav", None, "s3://b/c.wav"],
        url=["https://h/a.wav", None, None],
        text=["one", "two", None],
        caption=["eins", None, None],
        kind=["speech", "TEXT", "Music"],
        id=[1, 2, 3],
        score=[0.5, 0.25, None],
        rank=[1, 2, 3],
        vector=[[1.0], [2.0], [3.0]],
        **{"a.b": ["x", None, None], "_rowid": [7, 8, 9]},
    )
    assert import_embeddings(*files, tmp_path / "db", encoder) == 3
    rows = {row["source_id"]: row for row in all_rows(tmp_path / "db")}
    assert [rows[n]["kind"] for n in (1, 2, 3)] == ["audio", "text", "audio"]
    assert [rows[n]["uri"] for n in (1, 2, 3)] == [
        str(tmp_path / "a.wav"),
        f"{tmp_path / 'm.parquet'}#L2",
        "s3://b/c.wav",
    ]
    assert {name: rows[1][name] for name in rows[1] if name not in CORE_COLUMNS} == {
        "url": "https://h/a.wav",
        "caption": "eins",
        "source_kind": "speech",
        "source_id": 1,
        "source_score": 0.5,
        "source_rank": 1,
        "source_vector": [1.0],
        "a_b": "x",
        "source_rowid": 7,
    }
    assert "the column 'score' is kept as 'source_score'" in caplog.text


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": ["a.wav"] * 5}, r"m\.parquet, row 1: '.*a\.wav' without start_s and end_s is there before, 1 rows"),
        (
            {"path": ["a.wav", "b.wav", "a.wav"], "start_s": [0.0, 0.0, 0.0], "end_s": [1.0, 1.0, 1.0]},
            r"row 2: '.*a\.wav' from 0 to 1 s is there before, 2 rows above",
        ),
        ({"path": ["a.wav", "b.wav"], "start_s": [0.0, None]}, r"row 0: has start_s alone"),
        ({"path": ["a.wav"], "end_s": [1.0]}, r"row 0: has end_s alone"),
        ({"path": ["a.wav"], "start_s": [2], "end_s": [1]}, r"row 0: start_s 2.0 is not before end_s 1.0"),
        ({"path": ["a.wav"], "start_s": [-1.0], "end_s": [1.0]}, r"row 0: not a time in seconds: -1.0"),
        ({"path": ["a.wav"], "start_s": [[1]], "end_s": [[2]]}, r"row 0: not a time in seconds"),
        ({"path": ["a.wav", "b.wav"], "text": [7, None]}, r"row 0: text is 7, expected a text"),
        ({"path": ["a.wav"], "language": [3]}, r"row 0: language is 3, expected a text"),
        ({"path": [3]}, r"row 0: path is 3, expected a text"),
        ({"path": ["a.wav"], "content_hash": ["abc"]}, r"row 0: content_hash 'abc' is no SHA-256"),
        ({"path": [None], "text": ["t"], "kind": ["audio"]}, r"row 0: is audio, and names no recording"),
        ({"path": [None]}, r"row 0: has neither a uri nor a text"),
        ({"path": ["ftp://h/a.wav"]}, r"row 0: .*opened only where it is typed"),
        ({"path": ["a.wav"], "score": [1], "source_score": [2]}, r"two columns would be 'source_score'"),
    ],
)
def test_rows_that_cannot_be_used_are_named_and_nothing_is_written(
    tmp_path: Path, encoder: ToneEncoder, columns: dict[str, Any], message: str
) -> None:
    with pytest.raises(FormatError, match=message):
        import_embeddings(*exported(tmp_path, **columns), tmp_path / "db", encoder)
    assert Database(tmp_path / "db").table().count() == 0


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.zeros((2, DIM)), r"row 0 \+ 0: the vector is zero or not finite"),
        (np.array([[1.0] * DIM, [np.inf] * DIM]), r"row 0 \+ 1: the vector is zero or not finite"),
        (np.ones((2, DIM + 1)), r"has shape \(2, 17\)"),
        (np.ones((3, DIM)), r"has shape \(3, 16\), .* has 2 rows"),
        (np.ones(2 * DIM), r"has shape \(32,\)"),
        (np.ones((2, DIM), complex), r"the vectors are complex128, expected real numbers"),
        (np.full((2, DIM), "1"), r"the vectors are <U1, expected real numbers"),
    ],
)
def test_vectors_that_cannot_be_used_are_named(
    tmp_path: Path, encoder: ToneEncoder, vectors: Any, message: str
) -> None:
    with pytest.raises(FormatError, match=message):
        import_embeddings(*exported(tmp_path, vectors, path=["a.wav", "b.wav"]), tmp_path / "db", encoder)


def test_a_column_becomes_as_wide_as_later_metadata_need_it(tmp_path: Path, encoder: ToneEncoder) -> None:
    for number, years in enumerate(([1999], [1999.5], ["unknown"])):
        (tmp_path / str(number)).mkdir()
        files = exported(tmp_path / str(number), path=["a.wav"], year=years)
        assert import_embeddings(*files, tmp_path / "db", encoder) == 1
    rows = {Path(row["uri"]).parent.name: row["year"] for row in all_rows(tmp_path / "db")}
    assert rows == {"0": "1999.0", "1": "1999.5", "2": "unknown"}


def test_windows_that_are_far_apart_in_the_files_are_one_recording(tmp_path: Path, encoder: ToneEncoder) -> None:
    path = write_tone(tmp_path / "a.wav", duration_s=15)
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    for number, start in enumerate((0.0, 5.0)):
        np.save(tmp_path / f"v{number}.npy", encoder.encode_audio([tone(440)]))
        columns = {"path": ["a.wav"], "start_s": [start], "end_s": [start + 10], "content_hash": [content]}
        parquet.write_table(pa.table(columns), tmp_path / f"m{number}.parquet")
    assert import_embeddings(tmp_path, tmp_path, tmp_path / "db", encoder) == 2
    again = ToneEncoder()
    assert indexer.index([path], tmp_path / "db", again).unchanged == 1
    assert again.clips_encoded == 0

"""Rows of manifests become items with segments, texts and further columns."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from clara_search.store.database import Database
from indexer.ledger.failures import failures
from indexer.pipeline import IndexResult, index
from tests.helpers import ToneEncoder, write_tone


def counts(summary: IndexResult) -> tuple[int, int, int, int, int]:
    """Indexed, unchanged, failed, removed, rows."""
    return astuple(summary)[:5]


def rows_by_name(database: Database, table: str = "corpus") -> dict[str, list[tuple[float, float]]]:
    spans_by_name: dict[str, list[tuple[float, float]]] = {}
    for row in database.table(table).scan(["uri", "start_s", "end_s"]).to_pylist():
        spans_by_name.setdefault(Path(row["uri"]).name, []).append((row["start_s"], row["end_s"]))
    return {name: sorted(spans) for name, spans in sorted(spans_by_name.items())}


def test_pruning_follows_a_manifest(tmp_path: Path, recordings: Path, database: Database, encoder: ToneEncoder) -> None:
    manifest = recordings / "clips.csv"
    manifest.write_text("path\nlow.wav\nmiddle.flac\nhigh/high.ogg\n")
    index([manifest], database, encoder)
    manifest.write_text("path\nlow.wav\nhigh/high.ogg\n")
    (recordings / "low.wav").unlink()
    summary = index([manifest], database, encoder, prune=True)
    assert counts(summary) == (0, 1, 1, 2, 1)
    assert [Path(failure["uri"]).name for failure in failures(database)] == ["low.wav"]


def test_manifest_columns_reach_the_table_with_their_types(
    recordings: Path, database: Database, encoder: ToneEncoder
) -> None:
    manifest = recordings / "clips.csv"
    manifest.write_text(
        "path,text,language,speaker,age\nlow.wav,a low hum,en,Bea,31\n,nur Text,de,,\nnowhere.wav,,en,Sam,40\n"
    )
    assert counts(index([manifest], database, encoder)) == (2, 0, 1, 0, 2)
    columns = ["kind", "uri", "start_s", "end_s", "text", "language", "speaker", "age"]
    audio, text = sorted(database.table().scan(columns).to_pylist(), key=lambda row: row["kind"])
    low = {"kind": "audio", "uri": str(recordings / "low.wav"), "start_s": 0.0, "end_s": 1.0}
    assert audio == {**low, "text": "a low hum", "language": "en", "speaker": "Bea", "age": 31}
    assert (text["uri"], text["text"], text["start_s"], text["speaker"]) == (f"{manifest}#L3", "nur Text", None, None)
    assert database.table().count("age > 30 AND speaker = 'Bea'") == 1
    assert [Path(failure["uri"]).name for failure in failures(database)] == ["nowhere.wav"]


def test_a_corrected_manifest_updates_the_row(recordings: Path, database: Database, encoder: ToneEncoder) -> None:
    manifest = recordings / "clips.csv"
    manifest.write_text("path,speaker\nlow.wav,Bae\nmiddle.flac,Sam\n")
    index([manifest], database, encoder)
    manifest.write_text("path,speaker\nlow.wav,Bea\nmiddle.flac,Sam\n")
    assert counts(index([manifest], database, encoder)) == (1, 1, 0, 0, 2)
    assert database.table().count("speaker = 'Bea'") == 1


def test_segments_of_one_recording_are_items_of_their_own(
    tmp_path: Path, database: Database, encoder: ToneEncoder
) -> None:
    write_tone(tmp_path / "long.wav", duration_s=30)
    manifest = tmp_path / "turns.csv"
    manifest.write_text("path,start_s,end_s,speaker\nlong.wav,2,5,A\nlong.wav,8,20,B\nlong.wav,40,45,C\n")
    assert counts(index([manifest], database, encoder)) == (2, 0, 1, 0, 3)
    assert rows_by_name(database) == {"long.wav": [(2, 5), (8, 18), (10, 20)]}
    assert "lasts 30.00 s" in failures(database)[0]["reason"]
    manifest.write_text("path,start_s,end_s,speaker\nlong.wav,2,5,A\n")
    assert counts(index([manifest], database, encoder, prune=True)) == (0, 1, 0, 2, 1)


def test_a_recording_listed_twice_is_kept_once(recordings: Path, database: Database, encoder: ToneEncoder) -> None:
    assert counts(index([recordings, recordings / "low.wav"], database, encoder)) == (3, 0, 0, 0, 3)
    manifest = recordings / "clips.csv"
    manifest.write_text("path,label\nlow.wav,first\nlow.wav,second\n")
    assert counts(index([manifest], database, encoder, table="twice")) == (1, 0, 1, 0, 1)
    assert database.table("twice").scan(["label"]).to_pylist() == [{"label": "first"}]
    assert "listed before" in failures(database, "twice")[0]["reason"]


def test_texts_are_embedded_in_their_language_and_only_once(
    tmp_path: Path, database: Database, encoder: ToneEncoder
) -> None:
    lines = tmp_path / "captions.txt"
    lines.write_text("a dog barks\nrain on a roof\n")
    manifest = tmp_path / "captions.csv"
    manifest.write_text("text,language\na dog barks,en\n")
    assert counts(index([lines, manifest], database, encoder)) == (3, 0, 0, 0, 3)
    ids, vectors = database.table().ids_and_vectors()
    for row, vector in zip(database.table().rows(ids), vectors, strict=True):
        np.testing.assert_allclose(vector, encoder.encode_text([row["text"]], row["language"])[0], atol=1e-6)
    encoder.texts_encoded = 0
    lines.write_text("a dog barks\nrain on a tent\n")
    assert counts(index([lines, manifest], database, encoder)) == (1, 2, 0, 0, 3)
    assert encoder.texts_encoded == 1
    lines.write_text("a dog barks\n")
    assert counts(index([lines, manifest], database, encoder, prune=True)) == (0, 2, 0, 1, 2)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"path": "a\\u0000.wav"}', "holds a NUL"),
        ('{"path": "a\\ud800.wav"}', "No such file"),
        ('{"text": "rain", "start_s": 1' + "0" * 400 + "}", "not a time in seconds"),
    ],
    ids=["nul", "surrogate", "endless start"],
)
def test_a_row_that_no_file_can_have_is_listed_and_costs_nothing_else(
    tmp_path: Path, database: Database, encoder: ToneEncoder, line: str, reason: str
) -> None:
    (tmp_path / "rows.jsonl").write_text(line + '\n{"text": "rain on a roof"}\n', encoding="utf-8")
    summary = index([tmp_path / "rows.jsonl"], database, encoder)
    assert counts(summary) == (1, 0, 1, 0, 1)
    assert reason in failures(database, "corpus")[0]["reason"]


@pytest.mark.parametrize(
    "line", ['{"text": "a\\ud800"}', '{"text": "a", "language": "\\udfff"}', '{"text": "a", "n\\ud800": 1}']
)
def test_half_a_character_is_replaced(tmp_path: Path, database: Database, encoder: ToneEncoder, line: str) -> None:
    (tmp_path / "rows.jsonl").write_text(line + "\n", encoding="utf-8")
    assert counts(index([tmp_path / "rows.jsonl"], database, encoder)) == (1, 0, 0, 0, 1)


def test_a_number_beyond_64_bits_is_kept_as_text(tmp_path: Path, database: Database, encoder: ToneEncoder) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "n": 1%s}\n{"text": "b", "n": 2}\n' % ("0" * 30))
    index([tmp_path / "rows.jsonl"], database, encoder)
    assert sorted(database.table().scan(["n"])["n"].to_pylist()) == ["1" + "0" * 30, "2"]

"""Shards, Arrow files, saved data sets, patterns, links and stores: what they list, and that all become rows."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pytest
import soundfile

from clara_search.errors import FormatError, SourceError
from clara_search.store.database import Database
from indexer.ledger.failures import failures
from indexer.pipeline import index
from indexer.sources.base import Selection
from indexer.sources.item import Item, Survey
from indexer.sources.listing import list_items, survey_sources
from indexer.sources.memory import Recording
from tests.helpers import ToneEncoder, band_energies, tone, write_tone


def flac(frequency: float, duration_s: float = 1.0) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, tone(frequency, duration_s), 16_000, format="FLAC")
    return file.getvalue()


def shard(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def listed(*sources: str | Path, **selection: Any) -> list[Item]:
    return list(list_items(sources, Selection(**selection)))


def names(items: list[Item]) -> list[str]:
    return [Path(item.uri).name for item in items]


@pytest.fixture
def train(tmp_path: Path) -> Path:
    metadata = {"text": ["a low tone", "a hum"], "language": "en", "kind": "sound", "duration_s": 1.0, "start_s": 7}
    members = {
        "a/low.flac": flac(200),
        "a/low.json": json.dumps(metadata).encode(),
        "a/high.json": b'{"text": "a high tone", "speaker": "Bea"}',
        "a/high.flac": flac(5000),
        "alone.flac": flac(1000),
        "words.flac": flac(700),
        "words.txt": b"nur Worte",
    }
    return shard(tmp_path / "train-000.tar", members)


def test_the_examples_of_a_shard_become_rows_with_what_stands_beside_them(
    train: Path, database: Database, encoder: ToneEncoder
) -> None:
    items = survey_sources([train])
    assert (items.items, dict(items.columns)) == (
        4,
        {
            "source_kind": pa.string(),
            "duration_s": pa.float64(),
            "source_start_s": pa.int64(),
            "speaker": pa.string(),
            "captions": pa.list_(pa.string()),
        },
    )
    summary = index([train], database, encoder)
    assert (summary.indexed, summary.rows) == (4, 6)
    rows = database.table().scan(database.table().schema.names)
    captions = [row["text"] for row in rows.to_pylist() if row["kind"] == "text"]
    assert captions == ["a low tone", "a hum"]
    rows = {row["uri"]: row for row in rows.to_pylist() if row["kind"] == "audio"}
    low = rows[f"tar://a/low.flac::{train}"]
    assert (low["text"], low["language"], low["source_kind"], low["end_s"]) == ("a low tone", "en", "sound", 1.0)
    np.testing.assert_allclose(low["vector"], band_energies(tone(200)), atol=0.01)
    assert rows[f"tar://words.flac::{train}"]["text"] == "nur Worte"
    with fsspec.open(f"tar://a/low.flac::{train}") as file:
        assert file.read() == flac(200)


def test_an_unchanged_shard_is_not_read_and_a_changed_one_only_where_it_changed(
    train: Path, database: Database, encoder: ToneEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(train, (1.6e9, 1.6e9))
    index([train], database, encoder)
    monkeypatch.setattr("clara_search.files.shards.ByteRange.read", lambda part: pytest.fail("read"))
    assert index([train], database, encoder).unchanged == 4
    monkeypatch.undo()
    shard(train, {"a/low.flac": flac(300), "alone.flac": flac(1000)})
    again = ToneEncoder()
    summary = index([train], database, again, prune=True)
    assert (summary.indexed, summary.unchanged, summary.removed, summary.rows) == (1, 1, 4, 2)
    assert again.clips_encoded == 1


def test_what_is_cut_off_a_shard_is_listed_and_the_rest_is_indexed(
    train: Path, database: Database, encoder: ToneEncoder
) -> None:
    train.write_bytes(train.read_bytes()[: train.stat().st_size // 2])
    summary = index([train], database, encoder)
    assert summary.indexed >= 1
    assert summary.failed == 1
    assert "not a readable tar shard" in failures(database)[0]["reason"]


def test_a_column_is_widened_for_values_of_a_source_that_was_not_surveyed(
    database: Database, encoder: ToneEncoder
) -> None:
    takes = [Recording(f"take/{n}", tone(440), 16_000, columns={"n": n}) for n in range(3)]
    index(takes, database, encoder)
    later = [Recording("take/a", tone(440), 16_000, columns={"n": 1.5}), Recording("take/b", tone(440), 16_000)]
    unsurveyed = Survey(None, {})
    assert index(later, database, encoder, survey=unsurveyed).failed == 0
    table = database.table()
    assert (table.schema.field("n").type, table.count(), table.count("n = 1.5")) == (pa.float64(), 5, 1)


def arrow(path: Path, stream: bool, rows: list[dict[str, Any]]) -> Path:
    table = pa.Table.from_pylist(rows)
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return path


@pytest.mark.parametrize("kind", ["arrow stream", "arrow file", "parquet"])
def test_recordings_inside_arrow_and_parquet_files_become_rows(
    tmp_path: Path, database: Database, encoder: ToneEncoder, kind: str
) -> None:
    rows = [
        {"audio": {"bytes": flac(200), "path": "low.flac"}, "text": "low", "label": 3},
        {"audio": {"bytes": None, "path": "beside.wav"}, "text": "beside", "label": 4},
        {"audio": None, "text": "words alone", "label": 5},
    ]
    write_tone(tmp_path / "beside.wav", 1000)
    path = tmp_path / ("rows.parquet" if kind == "parquet" else "rows.arrow")
    if kind == "parquet":
        pa.parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        arrow(path, kind == "arrow stream", rows)
    summary = index([path], database, encoder)
    assert (summary.indexed, summary.failed) == (3, 0)
    items = database.table().scan(["uri", "text", "kind", "label"]).to_pylist()
    assert sorted((row["uri"], row["text"], row["kind"], row["label"]) for row in items) == [
        (str(tmp_path / "beside.wav"), "beside", "audio", 4),
        (f"{path}#L1/low.flac", "low", "audio", 3),
        (f"{path}#L3", "words alone", "text", 5),
    ]
    assert index([path], database, encoder).unchanged == 3


def test_a_folder_that_datasets_saved_is_read_with_all_its_splits(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    for split, count in (("train", 3), ("test", 2)):
        (saved / split).mkdir(parents=True)
        arrow(saved / split / "data-00000-of-00001.arrow", True, [{"text": f"{split} {n}"} for n in range(count)])
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": split}
        (saved / split / "state.json").write_text(json.dumps(state))
    (saved / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert survey_sources([saved]).items == 5
    assert [item.text for item in listed(saved)] == ["train 0", "train 1", "train 2", "test 0", "test 1"]
    assert [item.text for item in listed(saved / "test")] == ["test 0", "test 1"]
    (saved / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    with pytest.raises(FormatError, match="one of the splits"):
        listed(saved)


@pytest.mark.parametrize("name", ["../elsewhere.arrow", "{home}/elsewhere.arrow", "..", ".", "", "a/b.arrow", 3])
def test_a_data_set_names_no_file_outside_its_folder(tmp_path: Path, name: str | int) -> None:
    arrow(tmp_path / "elsewhere.arrow", True, [{"text": "of somebody else"}])
    name = name.format(home=tmp_path) if isinstance(name, str) else name
    saved = tmp_path / "saved"
    saved.mkdir()
    (saved / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    with pytest.raises(FormatError, match="saved: not a data set that can be read"):
        listed(saved)
    (saved / "dataset_dict.json").write_text(json.dumps({"splits": [name]}))
    with pytest.raises(FormatError, match="saved: not a data set that can be read"):
        listed(saved)


def test_patterns_name_what_matches_and_a_file_may_have_their_letters(tmp_path: Path) -> None:
    for name in ("a/1.wav", "a/b/2.wav", "a/[3].wav", "train-00.tar", "train-01.tar"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shard(tmp_path / name, {f"{name[-6]}.txt": b"x"}) if name.endswith("tar") else write_tone(tmp_path / name)
    assert names(listed(tmp_path / "**" / "*.wav")) == ["1.wav", "[3].wav", "2.wav"]
    assert names(listed(tmp_path / "a" / "[3].wav")) == ["[3].wav"]
    assert len(listed(f"{tmp_path}/train-{{00..01}}.tar")) == 2
    with pytest.raises(SourceError, match="no file matches"):
        listed(tmp_path / "*.mp3")


def test_what_is_to_be_ignored_is_left_out_by_name_and_by_path(tmp_path: Path) -> None:
    for name in ("a.wav", "a.tmp.wav", "old/b.wav", "new/b.wav", "new/deep/old/c.wav"):
        write_tone(tmp_path / name)
    assert names(listed(tmp_path, ignore=("*.tmp.wav", "old"))) == ["a.wav", "b.wav"]
    assert names(listed(tmp_path, ignore=("new/*", "*.tmp.*"))) == ["a.wav", "b.wav"]


def test_symbolic_links_are_followed_when_asked_and_never_in_circles(tmp_path: Path) -> None:
    write_tone(tmp_path / "outside" / "linked.wav")
    folder = tmp_path / "folder"
    write_tone(folder / "own.wav")
    (folder / "file.wav").symlink_to(tmp_path / "outside" / "linked.wav")
    (folder / "sub").symlink_to(tmp_path / "outside")
    (tmp_path / "outside" / "up").symlink_to(folder)
    assert names(listed(folder)) == ["own.wav"]
    assert sorted(names(listed(folder, follow_symlinks=True))) == ["file.wav", "linked.wav", "own.wav"]


def test_a_renamed_recording_is_recognised_and_not_embedded_again(
    recordings: Path, database: Database, encoder: ToneEncoder
) -> None:
    write_tone(recordings / "long.wav", duration_s=22)
    index([recordings], database, encoder)
    (recordings / "long.wav").rename(recordings / "moved.wav")
    again = ToneEncoder()
    summary = index([recordings], database, again, prune=True)
    assert (summary.indexed, summary.reused, summary.removed, summary.rows) == (1, 1, 4, 7)
    assert again.clips_encoded == 0
    spans = database.table().scan(["start_s", "end_s"], "uri LIKE '%moved.wav'").to_pylist()
    assert sorted((one["start_s"], one["end_s"]) for one in spans) == [(0, 10), (5, 15), (10, 20), (12, 22)]
    assert index([recordings], database, again).unchanged == 4


@pytest.mark.parametrize("suffix", ["m4a", "mp4", "mkv", "webm"])
def test_the_audio_track_of_a_film_is_indexed(
    tmp_path: Path, database: Database, encoder: ToneEncoder, suffix: str
) -> None:
    import av

    path = tmp_path / "films" / f"film.{suffix}"
    path.parent.mkdir()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libopus" if suffix == "webm" else "aac", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(440, 2.0, 48_000)[None], format="fltp", layout="mono")
        frame.sample_rate = 48_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    index([path.parent], database, encoder)
    assert failures(database) == []
    (row,) = database.table().scan(["end_s", "vector"]).to_pylist()
    assert row["end_s"] == pytest.approx(2.0, abs=0.1)
    assert np.argmax(row["vector"]) == np.argmax(band_energies(tone(440, 2.0)))


def test_a_bucket_gives_the_rows_and_vectors_of_the_same_folder(
    bucket: Any, recordings: Path, train: Path, tmp_path: Path, encoder: ToneEncoder
) -> None:
    for path in recordings.rglob("*.*"):
        bucket.put(str(path), f"sounds/in/{path.relative_to(recordings)}")
    bucket.put(str(train), "sounds/train.tar")
    bucket.pipe("sounds/rows.csv", b"path,url,text\nin/low.wav,,relative\n,s3://sounds/in/high/high.ogg,absolute\n")
    sources = ["s3://sounds/in", "s3://sounds/train.tar"]
    summary = index(sources, tmp_path / "remote", encoder)
    assert (summary.indexed, summary.failed, summary.rows) == (7, 0, 9)
    index([recordings, train], tmp_path / "local", encoder)

    def items(database: Path, root: str, tar: str) -> dict[str, list[float]]:
        rows = Database(database).table().scan(["uri", "kind", "text", "vector"]).to_pylist()
        return {
            f"{row['uri'].replace(root, '').replace(tar, '')} {row['kind']} {row['text']}": row["vector"]
            for row in rows
        }

    remote = items(tmp_path / "remote", "s3://sounds/in", "s3://sounds/train.tar")
    assert remote == items(tmp_path / "local", str(recordings), str(train))
    table = Database(tmp_path / "remote").table()
    assert table.count("speaker = 'Bea' AND text = 'a high tone'") == 1
    assert table.count("duration_s = 1.0 AND source_kind = 'sound' AND kind = 'audio'") == 1
    again = ToneEncoder()
    assert index(sources, tmp_path / "remote", again).unchanged == 7
    assert again.clips_encoded == 0
    listing = index(["s3://sounds/rows.csv"], tmp_path / "rows", again)
    assert (listing.indexed, listing.failed) == (2, 0)
    bucket.rm("sounds/in/low.wav")
    bucket.invalidate_cache()
    fsspec.filesystem("s3").invalidate_cache()
    assert index(sources, tmp_path / "remote", again, prune=True).removed == 1
    with pytest.raises(SourceError, match="s3://nowhere"):
        index(["s3://nowhere/in"], tmp_path / "none", again)

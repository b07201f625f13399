"""Manifests of the field: which column is what, and several captions of a recording."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from clara_search.datasets.manifests import Manifest, ManifestColumns, ManifestRow
from clara_search.errors import ClaraError, ConfigError, FormatError


def write(path: Path, content: str | list[dict[str, Any]]) -> Path:
    if isinstance(content, list) and path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(content), path)
    elif isinstance(content, list):
        path.write_text("".join(json.dumps(row) + "\n" for row in content))
    else:
        path.write_text(content)
    return path


def rows(file: Path, content: str | list[dict[str, Any]], **columns: Any) -> list[ManifestRow]:
    return list(Manifest(str(write(file, content)), ManifestColumns(**columns)).rows())


QUOTED = '"Hello," he said'
URL = "https://host/a.mp3?x=1"

FIELD: dict[str, tuple[Any, str, tuple[str, ...]]] = {
    "huggingface.csv": ("file_name,transcription\na.wav,hello\n", "a.wav", ("hello",)),
    "common-voice.tsv": (f"client_id\tpath\tsentence\n9\ta.mp3\t{QUOTED}\n", "a.mp3", (QUOTED,)),
    "clotho.csv": ("file_name,caption_1,caption_2,caption_3\na.wav,a dog,a cat,\n", "a.wav", ("a dog", "a cat")),
    "deepspeech.csv": ("wav_filename,wav_filesize,transcript\na.wav,320,hello\n", "a.wav", ("hello",)),
    "lists.jsonl": ([{"audio": "a.wav", "captions": ["a dog", "a cat"]}], "a.wav", ("a dog", "a cat")),
    "Capitals.csv": ("File Name,Text\na.wav,hello\n", "a.wav", ("hello",)),
    "digits.parquet": ([{"path": "a.wav", "text": 17}], "a.wav", ("17",)),
    "urls.jsonl": ([{"audio_url": URL, "sentence": "hello"}], URL, ("hello",)),
    "bars.csv": (f"wav|raw_text\na.wav|{QUOTED}\n", "a.wav", (QUOTED,)),
    "label-studio.json": ('[{"id": 1, "data": {"audio": "a.wav"}, "annotations": []}]', "a.wav", ()),
}


@pytest.mark.parametrize("name", FIELD)
def test_the_columns_of_the_field_are_recognised(name: str, tmp_path: Path) -> None:
    content, path, texts = FIELD[name]
    (row,) = rows(tmp_path / name, content)
    assert (row.path, row.texts, row.start_s, row.end_s, row.problem) == (path, texts, None, None, None)


@pytest.mark.parametrize(
    ("row", "segment"),
    [
        ({"audio_filepath": "a.wav", "duration": 1.5, "offset": 0.5, "text": "hello"}, (0.5, 2.0)),
        ({"file": "a.flac", "start": 1, "end": "2.5"}, (1.0, 2.5)),
        ({"path": "a.flac", "start_time": 1, "end_time": 2.5}, (1.0, 2.5)),
        ({"path": "a.flac", "start_s": 1, "start": 7, "end": 9}, (1.0, None)),
    ],
)
def test_segments_of_the_field_are_recognised(
    row: dict[str, Any], segment: tuple[float, float | None], tmp_path: Path
) -> None:
    (read,) = rows(tmp_path / "m.jsonl", [row])
    assert (read.start_s, read.end_s) == segment


@pytest.mark.parametrize(
    ("content", "further"),
    [
        ("path,file_name,label\na.wav,b.wav,x\n", {"file_name": "b.wav", "label": "x"}),
        ("path,start,label\na.wav,30,x\n", {"start": "30", "label": "x"}),  # a time of another recording
        ("path,start,end\na.wav,2024-01-05,soon\n", {"start": "2024-01-05", "end": "soon"}),
        ("path,duration\na.wav,1.5\n", {"duration": "1.5"}),
        (",path,label,\n0,a.wav,x,\n", {"label": "x"}),
        ("Unnamed: 0,path,label\n0,a.wav,x\n", {"label": "x"}),
        ("path,speech\na.wav,he spoke\n", {"speech": "he spoke"}),
    ],
)
def test_other_columns_stay_what_they_are(content: str, further: dict[str, str], tmp_path: Path) -> None:
    (row,) = rows(tmp_path / "m.csv", content)
    assert (row.path, row.start_s, row.columns) == ("a.wav", None, further)


def test_what_the_user_names_counts(tmp_path: Path) -> None:
    content = "id,take,text,phrase\n1,a,ignored,hello\n"
    (row,) = rows(tmp_path / "m.csv", content, path="take", text="phrase")
    assert (row.path, row.texts, row.columns) == ("a", ("hello",), {"id": "1", "text": "ignored"})
    (row,) = rows(tmp_path / "m.csv", content, renamed={"path": "take", "text": "phrase"})
    assert (row.path, row.texts, row.columns) == ("a", ("hello",), {"id": "1", "source_text": "ignored"})
    for option, columns in (
        ("path_column", {"path": "nothing"}),
        ("text_column", {"text": "nothing"}),
        ("columns", {"renamed": {"path": "nothing"}}),
    ):
        with pytest.raises(ConfigError, match=f"no column 'nothing', as `{option}` says"):
            rows(tmp_path / "m.csv", content, **columns)


def test_two_columns_that_could_be_the_path_are_an_error_that_names_both(tmp_path: Path) -> None:
    content = "file_name,audio_path,text\na.wav,b.wav,hello\n"
    with pytest.raises(ConfigError, match=r"'file_name' and 'audio_path' could each .* choose one with `path_column`"):
        rows(tmp_path / "m.csv", content)
    assert rows(tmp_path / "m.csv", content, path="audio_path")[0].path == "b.wav"
    (row,) = rows(tmp_path / "m.csv", "url,audio_path,text\nhttps://host/page,b.wav,hello\n")
    assert (row.path, row.columns) == ("b.wav", {"url": "https://host/page"})


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_texts_beside_names_of_recordings_are_an_error_that_says_which_column_to_name(
    suffix: str, tmp_path: Path
) -> None:
    content = [{"take": "a.wav", "text": "hello"}, {"take": "b.wav", "text": "you"}]
    with pytest.raises(FormatError, match=r"all rows would be texts.*'take' holds 'a.wav': name it with `path_column`"):
        rows(tmp_path / f"m{suffix}", content)
    assert [row.path for row in rows(tmp_path / f"m{suffix}", content, path="take")] == ["a.wav", "b.wav"]
    assert [row.path for row in rows(tmp_path / f"m{suffix}", content, path="")] == [None, None]


@pytest.mark.parametrize("value", [None, "", float("nan")])
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_null_empty_and_nan_are_all_missing(value: object, suffix: str, tmp_path: Path) -> None:
    other: object = 1.5 if isinstance(value, float) else "x"
    content = [{"path": "a.wav", "text": "hello", "x": other}, {"path": "b.wav", "text": "hello", "x": value}]
    assert [row.columns for row in rows(tmp_path / f"m{suffix}", content)] == [{"x": other}, {}]


@pytest.mark.parametrize("name", ["speech", "clip", "Audio"])
@pytest.mark.parametrize("kind", ["struct", "bytes"])
def test_recordings_inside_are_found_by_what_they_are(name: str, kind: str, tmp_path: Path) -> None:
    wav = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(100)
    cells = [{"bytes": wav, "path": "in/a.wav"}, None] if kind == "struct" else [wav, None]
    table = pa.table({name: cells, "text": ["hello", "you"], "blob": [b"\0\1", b"z"]})
    parquet.write_table(table, tmp_path / "m.parquet")
    first, second = Manifest(str(tmp_path / "m.parquet")).rows()
    assert first.content is not None
    assert (first.content.read(), first.path) == (wav, "in/a.wav" if kind == "struct" else None)
    assert (second.content, second.path, second.texts) == (None, None, ("you",))
    assert (first.columns, second.columns) == ({}, {})


CAPTIONS = [
    ("a.wav", "one"),
    ("a.wav", "two"),
    ("b.wav", "three"),
    ("a.wav", "four"),
    ("b.wav", "three"),
    ("c.wav", ""),
]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_rows_of_one_recording_become_one_with_all_its_captions(suffix: str, tmp_path: Path) -> None:
    content: Any = [{"path": path, "text": text} for path, text in CAPTIONS]
    if suffix == ".csv":
        content = "path,text\n" + "".join(f"{path},{text}\n" for path, text in CAPTIONS)
    read = [(row.path, row.texts) for row in rows(tmp_path / f"m{suffix}", content)]
    assert read == [("a.wav", ("one", "two", "four")), ("b.wav", ("three",)), ("c.wav", ())]


def test_segments_and_rows_that_add_no_caption_stay_rows_of_their_own(tmp_path: Path) -> None:
    content = "path,start_s,end_s,text,label\na.wav,0,1,one,x\na.wav,1,2,two,x\na.wav,1,2,two,y\na.wav,1,2,,x\n"
    read = [(row.start_s, row.texts, row.columns["label"]) for row in rows(tmp_path / "m.csv", content)]
    assert read == [(0.0, ("one",), "x"), (1.0, ("two",), "x"), (1.0, ("two",), "y")]


def test_columns_in_which_merged_rows_differ_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (row,) = rows(tmp_path / "m.csv", "path,text,annotator\na.wav,one,x\na.wav,two,y\n")
    assert (row.texts, row.columns) == (("one", "two"), {"annotator": "x"})
    assert "differ in the column 'annotator'" in caplog.text


def test_a_bad_line_costs_that_line_and_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", "path,text\na.wav,one\nb.wav,two,three\nc.wav,four\n")
    problems: list[ClaraError] = []
    assert [row.path for row in Manifest(str(path)).rows(problems.append)] == ["a.wav", "c.wav"]
    assert [str(problem) for problem in problems] == [f"{path}, line 3: 3 cells, but 2 columns"]


def test_texts_in_a_manifest_of_recordings_are_counted_in_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read = rows(tmp_path / "m.csv", "audio,text\na.wav,one\n,two\nb.wav,three\n,four\n")
    assert [row.path for row in read] == ["a.wav", None, "b.wav", None]
    assert "2 of 4 rows name no recording and are texts" in caplog.text

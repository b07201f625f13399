from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from clara_search.datasets.manifests import ManifestColumns
from clara_search.errors import ConfigError, FormatError, SourceError
from indexer.sources.base import Selection
from indexer.sources.item import Item
from indexer.sources.listing import list_items, survey_sources

INT = pa.int64()


def listed(*sources: Path, text_column: str | None = None) -> list[Item]:
    return list(list_items(sources, Selection(ManifestColumns(text=text_column))))


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_folder_gives_its_audio_files_sorted_without_hidden_ones_and_links(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside.wav", b"")
    folder = tmp_path / "folder"
    for name in ("b/2.MP3", "b/1.wav", "a.flac", "notes.txt", "b/.hidden.wav", ".git/x.wav", "looks-like.wav/in.ogg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write(folder / name, b"")
    (folder / "linked.wav").symlink_to(outside)
    (folder / "broken.wav").symlink_to(tmp_path / "nowhere.wav")
    items = listed(folder)
    names = [Path(item.uri).relative_to(folder).as_posix() for item in items]
    assert names == ["a.flac", "b/1.wav", "b/2.MP3", "looks-like.wav/in.ogg"]
    assert {item.kind for item in items} == {"audio"}
    assert survey_sources([folder]).items == 4


def test_uris_are_absolute_whatever_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path / "a.wav", b"")
    monkeypatch.chdir(tmp_path / "sub")
    assert [item.uri for item in listed(Path("../sub/../a.wav"))] == [str(tmp_path / "a.wav")]


def test_each_line_of_a_text_file_that_is_not_blank_is_an_item(tmp_path: Path) -> None:
    path = write(tmp_path / "captions.txt", "a dog barks\n\n  ein Hund bellt \r\n")
    assert [(item.kind, item.uri, item.text) for item in listed(path)] == [
        ("text", f"{path}#L1", "a dog barks"),
        ("text", f"{path}#L3", "ein Hund bellt"),
    ]


CSV = (
    "path,text,language,start_s,end_s,speaker,age,score_db,code\n"
    'a.wav,"hello, you",en,1.5,4,Bea,31,0.5,007\n'
    ",nur Text,de,,,,,2,x\n"
)


def test_a_csv_manifest_keeps_its_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "clips.csv", "\ufeff" + CSV)
    audio, text = listed(path)
    assert (audio.kind, audio.uri, audio.text, audio.language) == ("audio", str(tmp_path / "a.wav"), "hello, you", "en")
    assert (audio.start_s, audio.end_s, audio.key) == (1.5, 4.0, f"{tmp_path / 'a.wav'}#t=1.5,4")
    assert audio.columns == {"speaker": "Bea", "age": "31", "score_db": "0.5", "code": "007"}
    assert (text.kind, text.uri, text.text, text.columns) == (
        "text",
        f"{path}#L3",
        "nur Text",
        {"score_db": "2", "code": "x"},
    )
    items = survey_sources([path])
    assert items.items == 2
    assert items.columns == {"speaker": pa.string(), "age": INT, "score_db": pa.float64(), "code": pa.string()}


def test_all_manifest_formats_give_the_same_items(tmp_path: Path) -> None:
    rows = [
        {"path": "a.wav", "text": "hello", "speaker": "Bea", "age": 31, "noisy": True},
        {"path": None, "text": "only text", "speaker": None, "age": 5, "noisy": False},
    ]
    write(tmp_path / "m.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "m.parquet")
    write(tmp_path / "m.tsv", "path\ttext\tspeaker\tage\na.wav\thello\tBea\t31\n\tonly text\t\t5\n")
    for suffix in ("jsonl", "parquet", "tsv"):
        audio, text = listed(tmp_path / f"m.{suffix}")
        assert (audio.kind, audio.uri, audio.text) == ("audio", str(tmp_path / "a.wav"), "hello")
        assert (text.kind, text.text) == ("text", "only text")
        assert "speaker" not in text.columns
        columns = dict(survey_sources([tmp_path / f"m.{suffix}"]).columns)
        assert {name: columns[name] for name in ("speaker", "age")} == {"speaker": pa.string(), "age": INT}
        assert suffix == "tsv" or columns["noisy"] == pa.bool_()


def test_the_text_can_be_in_a_column_of_any_name(tmp_path: Path) -> None:
    path = write(tmp_path / "clotho.csv", "caption,rank_in_file\na dog,1\n")
    (item,) = listed(path, text_column="caption")
    assert (item.kind, item.text, item.columns) == ("text", "a dog", {"rank_in_file": "1"})
    with pytest.raises(ConfigError, match=r"no column 'sentence', as `text_column` says .*it has caption"):
        survey_sources([path], Selection(ManifestColumns(text="sentence")))


def test_a_column_of_several_types_is_as_wide_as_its_widest_value(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.jsonl", '{"text": "a", "x": 1, "y": 1, "z": true}\n{"text": "b", "x": 1.5, "y": "b", "z": 1}\n'
    )
    assert survey_sources([path]).columns == {"x": pa.float64(), "y": pa.string(), "z": pa.string()}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", "", "holds no rows"),
        ("m.csv", "path,text\n", "holds no rows"),
        ("m.csv", "code,label\n7,dog\n", "no column that names recordings or holds texts .*it has code, label"),
        ("m.csv", "take,label\na.wav,dog\n", "name it with `path_column` .*; 'take' holds 'a.wav'"),
        ("m.csv", 'path,label\n"a.wav,dog\n', "line 2: unexpected end of data"),
        ("m.csv", b"path,label\na.wav,caf\xe9\n", "line 2: not UTF-8"),
        ("m.csv", "path,path\na,b\n", "line 1: two columns have the same name"),
        ("m.csv", "path,a.b,a_b\na.wav,7,8\n", "the columns 'a.b' and 'a_b' would both be 'a_b': rename one"),
        ("m.jsonl", '["a.wav"]\n', "line 1: not a JSON object"),
        ("m.jsonl", '{"code": 7}\n', "no column that names recordings or holds texts"),
        ("m.parquet", b"PAR1 it is not", "not a readable Parquet file"),
        ("m.txt", " \n\n", "holds no text"),
        ("m.txt", "a.wav\nin/b c.flac\n", "each line is the name of a recording, and none a text"),
        (
            "m.txt",
            "a.wav|hello there\nb.flac\tbye\n",
            "each line begins with the name of a recording: write .*path|text",
        ),
        ("m.csv", "a.wav,dog\nb.wav,cat\n", "no line with the names of its columns: its first line has 'a.wav'"),
        ("m.csv", "a.wav|dog\nb.wav|cat\n", "no line with the names of its columns: its first line has 'a.wav'"),
        ("m.docx", "what", "neither a folder, nor a recording"),
    ],
)
def test_a_broken_source_is_named_before_any_work(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises((FormatError, SourceError), match=message) as caught:
        survey_sources([path])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nowhere: no such file or folder"):
        survey_sources([tmp_path / "nowhere"])


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"path": None, "text": None}, "neither a path nor a text"),
        ({"path": "a.wav", "start_s": "soon"}, "not a time in seconds: 'soon'"),
        ({"path": "a.wav", "start_s": -1}, "not a time in seconds: -1"),
        ({"path": "a.wav", "start_s": 5, "end_s": 5}, "start_s 5.0 is not before end_s 5.0"),
        ({"path": True}, "path is no text: True"),
    ],
)
def test_a_bad_row_is_an_item_with_a_problem(tmp_path: Path, row: dict[str, object], problem: str) -> None:
    path = write(tmp_path / "m.jsonl", json.dumps(row) + '\n{"text": "fine"}\n')
    bad, fine = listed(path)
    assert bad.problem is not None
    assert problem in bad.problem
    assert (bad.uri, fine.problem) == (f"{path}#L1", None)

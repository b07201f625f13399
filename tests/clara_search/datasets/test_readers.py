import gzip
import io
import json
import re
import tarfile
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clara_search.datasets.labelled import read_clips
from clara_search.datasets.readers import read_examples
from clara_search.errors import ClaraError, FormatError, SourceError
from clara_search.files.patterns import expand_pattern


def shard(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def test_a_shard_gives_pairs_by_key_in_either_order(tmp_path: Path) -> None:
    first, second = json.dumps({"text": "eins", "language": "de", "extra": 1}), json.dumps({"text": "zwei"})
    shard(
        tmp_path / "a.tar",
        {
            "./x.y/1.flac": b"one",
            "./x.y/1.json": first.encode(),
            "./x.y/2.json": second.encode(),
            "./x.y/2.OPUS": b"two",
        },
    )
    examples = list(read_examples(tmp_path / "*.tar"))
    assert [(e.key, e.audio, e.text, e.language) for e in examples] == [
        ("./x.y/1", b"one", "eins", "de"),
        ("./x.y/2", b"two", "zwei", "und"),
    ]


def test_a_manifest_gives_paths_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,text,speaker,other\na/b.wav,hello,ann,1\nc.wav,bye,,2\n")
    examples = list(read_examples(tmp_path / "m.csv"))
    assert [(e.audio, e.text, e.speaker) for e in examples] == [
        (tmp_path / "a" / "b.wav", "hello", "ann"),
        (tmp_path / "c.wav", "bye", None),
    ]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"1.flac": b"x"}, r"a\.tar: key '1' has no text"),
        ({"1.json": b"{}"}, r"key '1' has no recording"),
        ({"1.flac": b"x", "1.json": b"{"}, r"key '1': its JSON: not JSON"),
        ({"1.flac": b"x", "1.json": b"{}"}, r"key '1' has no text"),
        ({"1.flac": b"x", "1.json": b"[]"}, r"key '1': its JSON: not a JSON object"),
    ],
)
def test_a_broken_shard_is_named(members: dict[str, bytes], message: str, tmp_path: Path) -> None:
    shard(tmp_path / "a.tar", members)
    with pytest.raises(FormatError, match=message):
        list(read_examples(tmp_path / "a.tar"))


def test_what_is_no_shard_or_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no file matches"):
        list(read_examples(tmp_path / "*.tar"))
    (tmp_path / "x.tar").write_bytes(b"not a tar")
    with pytest.raises(FormatError, match=r"x\.tar: not a readable tar"):
        list(read_examples(tmp_path / "x.tar"))
    (tmp_path / "m.csv").write_text("path,label\na.wav,dog\n")
    with pytest.raises(FormatError, match=r"no column of texts \(it has path, label\): name it with `text_column`"):
        list(read_examples(tmp_path / "m.csv"))
    (tmp_path / "x.zip").write_bytes(b"")
    with pytest.raises(SourceError, match=r"expected a \.tar shard, a \.csv"):
        list(read_examples(tmp_path / "x.zip"))


def test_json_lines_and_parquet_are_manifests_too(tmp_path: Path) -> None:
    rows = [{"path": "a.wav", "text": ["one", "uno"], "split": "test"}, {"path": "b.wav", "text": "two", "split": None}]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "\n")
    plain = [row | {"text": text} for row, text in zip(rows, ("one", "two"), strict=True)]
    pq.write_table(pa.Table.from_pylist(plain), tmp_path / "m.parquet")
    lines, table = list(read_examples(tmp_path / "m.jsonl")), list(read_examples(tmp_path / "m.parquet"))
    assert [(e.text, e.alternatives, e.split) for e in lines] == [("one", ("uno",), "test"), ("two", (), None)]
    assert [(e.key, e.text, e.split, e.audio) for e in table] == [
        ("a.wav", "one", "test", tmp_path / "a.wav"),
        ("b.wav", "two", None, tmp_path / "b.wav"),
    ]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".arrow", ".feather"])
def test_every_manifest_has_segments_and_urls(suffix: str, tmp_path: Path) -> None:
    rows = [
        {"path": "a.wav", "url": None, "text": "one", "start_s": 1.5, "end_s": 4.0, "label": "x"},
        {"path": "a.wav", "url": None, "text": "two", "start_s": 4.0, "end_s": None, "label": "y"},
        {"path": None, "url": "https://h/b.wav", "text": "three", "start_s": None, "end_s": None, "label": "x"},
        {"path": "a.wav", "url": None, "text": "four", "start_s": 4.0, "end_s": 3.0, "label": "y"},
    ]
    path, table = tmp_path / f"m{suffix}", pa.Table.from_pylist(rows)
    if suffix in (".csv", ".tsv"):
        delimiter = "," if suffix == ".csv" else "\t"
        lines = [delimiter.join("" if value is None else str(value) for value in row.values()) for row in rows]
        path.write_text("\n".join([delimiter.join(rows[0]), *lines]))
    elif suffix == ".parquet":
        pq.write_table(table, path)
    elif suffix in (".arrow", ".feather"):
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table)
    else:
        path.write_text("\n".join(map(json.dumps, rows)))
    problems: list[ClaraError] = []
    a, url = tmp_path / "a.wav", "https://h/b.wav"
    expected = [("a.wav#t=1.5,4", a, 1.5, 4.0), ("a.wav#t=4,", a, 4.0, None), (url, url, None, None)]
    assert [(e.key, e.audio, e.start_s, e.end_s) for e in read_examples(path, problems.append)] == expected
    clips = read_clips(path, problems.append)
    assert [(c.key, c.audio, c.start_s, c.end_s) for c in clips] == expected
    assert [c.value("label") for c in clips] == ["x", "y", "x"]
    assert [str(p).rpartition(": ")[2] for p in problems] == ["start_s 4.0 is not before end_s 3.0"] * 2


def test_recordings_within_a_parquet_file_are_examples(tmp_path: Path) -> None:
    rows = [
        {"audio": {"bytes": b"RIFF", "path": None}, "text": "one"},
        {"audio": {"bytes": None, "path": "b.wav"}, "text": "two"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "m.parquet")
    examples = list(read_examples(tmp_path / "m.parquet"))
    assert [(e.audio, e.text) for e in examples] == [(b"RIFF", "one"), (tmp_path / "b.wav", "two")]
    problems: list[ClaraError] = []
    (clip,) = read_clips(tmp_path / "m.parquet", problems.append)
    assert (clip.audio, len(problems)) == (tmp_path / "b.wav", 1)
    assert "line 1 holds its recording itself: make shards" in str(problems[0])


def test_a_folder_has_texts_beside_its_recordings(tmp_path: Path) -> None:
    for name in ("sub/a.WAV", "b.flac", "c.mp3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "sub" / "a.txt").write_text(" a dog \n")
    (tmp_path / "b.json").write_text('{"text": "rain", "language": "zxx"}')
    problems: list[ClaraError] = []
    examples = list(read_examples(tmp_path, problems.append))
    assert [(e.key, e.text, e.language) for e in examples] == [("b.flac", "rain", "zxx"), ("sub/a.WAV", "a dog", "und")]
    (problem,) = problems
    assert re.search(r"c\.mp3: has no c\.txt or c\.json beside it", str(problem))


def test_claras_own_shards_nest_the_language_and_list_the_texts(tmp_path: Path) -> None:
    metadata = json.dumps({"text": ["a", "b"], "original_data": {"language": "fy-NL"}}).encode()
    (example,) = read_examples(shard(tmp_path / "a.tar", {"1.flac": b"x", "1.json": metadata}))
    assert (example.text, example.alternatives, example.language, example.text_language) == (
        "a",
        ("b",),
        "fy-NL",
        "fy-NL",
    )


def test_what_is_broken_in_a_shard_is_stepped_over_and_the_rest_of_a_cut_one_reported(tmp_path: Path) -> None:
    good = json.dumps({"text": "t"}).encode()
    members = {"1.flac": b"x", "2.flac": b"y", "2.json": good, "3.json": good, "4.flac": b"z" * 5000, "4.json": good}
    path = shard(tmp_path / "a.tar", members)
    problems: list[ClaraError] = []
    assert [e.key for e in read_examples(path, problems.append)] == ["2", "4"]
    assert [str(p).split(": ")[1].split()[1] for p in problems] == ["'1'", "'3'"]
    path.write_bytes(path.read_bytes()[:5000])
    problems.clear()
    assert [e.key for e in read_examples(path, problems.append)] == ["2"]
    assert "not a readable tar shard" in str(problems[-1])


def test_braces_name_shards_by_number(tmp_path: Path) -> None:
    for number in (8, 9, 10):
        shard(tmp_path / f"s-{number:03}.tar", {"1.flac": b"x", "1.json": json.dumps({"text": str(number)}).encode()})
    assert [e.text for e in read_examples(str(tmp_path / "s-{008..010}.tar"))] == ["8", "9", "10"]
    assert expand_pattern("s3://b/{0..1}/x-{08..09}.tar") == [
        f"s3://b/{a}/x-{b}.tar" for a in "01" for b in ("08", "09")
    ]
    with pytest.raises(SourceError, match=r"no file matches '.*s-011\.tar'"):
        expand_pattern(str(tmp_path / "s-{010..011}.tar"))


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"label": 5, "speaker": 4.5, "source": True}, {"label": "5", "speaker": "4.5", "source": "true"}),
        ({"licence": 9, "language": 5, "text_language": 7}, {"licence": "9", "language": "5", "text_language": "7"}),
        ({"label": float("nan"), "speaker": None, "source": ""}, {"label": None, "speaker": None, "source": ""}),
        ({"split": "Training", "kind": "SPEECH"}, {"split": "train", "kind": "speech"}),
        ({"split": "validation"}, {"split": "valid"}),
        ({"split": "dev"}, {"split": "valid"}),
        ({"split": "eval"}, {"split": "test"}),
    ],
)
def test_metadata_becomes_text(known: dict[str, object], expected: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(json.dumps({"path": "a.wav", "text": "t", **known}))
    (example,) = read_examples(tmp_path / "m.jsonl")
    assert {name: getattr(example, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('{"path": "b.wav", "text": "t", "label": ["a"]}', r"line 2: label is a list, expected text"),
        ('{"path": "b.wav", "text": "t", "speaker": {"x": 1}}', r"line 2: speaker is a dict"),
        ('{"path": "b.wav", "text": "t", "split": 1}', r"line 2: split is '1', expected one of train, valid, test"),
        ('{"path": "b.wav", "text": "t", "kind": "noise"}', r"kind is 'noise', expected one of speech, sound, music"),
        ('{"path": "b.wav", "text": "a\\ud800b"}', r"line 2: text is no Unicode text"),
        ('{"path": "b\\ud800.wav", "text": "t"}', r"line 2: path is no Unicode text"),
        ('{"path": "b\\u0000.wav", "text": "t"}', r"line 2: its path holds a NUL"),
        ('{"path": ["b.wav"], "text": "t"}', r"line 2: path is no text"),
        ('{"path": "b.wav", "text": "t"', r"line 2: not JSON"),
        ("[" * 200_000, r"line 2: more than 100 levels of nesting"),
        ("[1]", r"line 2: not a JSON object"),
        ('{"path": "b.wav", "text": "caf\udce9"}', r"line 2: not UTF-8"),
    ],
)
def test_a_bad_row_is_left_out_with_its_reason_and_the_others_are_not(row: str, reason: str, tmp_path: Path) -> None:
    lines = ['{"path": "a.wav", "text": "one"}', row, '{"path": "c.wav", "text": "three"}']
    (tmp_path / "m.jsonl").write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    problems: list[ClaraError] = []
    assert [e.key for e in read_examples(tmp_path / "m.jsonl", problems.append)] == ["a.wav", "c.wav"]
    (problem,) = problems
    assert re.search(reason, str(problem))


def test_tables_come_with_marks_tabs_long_fields_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    content = "\ufeffpath,text\na.wav,one\nb.wav,caf\udce9\nc.wav," + "x" * 200_000 + "\n"
    (tmp_path / "m.csv").write_bytes(content.encode("utf-8", "surrogateescape"))
    (tmp_path / "m.tsv").write_text("path\ttext\na.wav\tone, two\n")
    problems: list[ClaraError] = []
    assert [(e.key, len(e.text)) for e in read_examples(tmp_path / "m.csv", problems.append)] == [
        ("a.wav", 3),
        ("c.wav", 200_000),
    ]
    assert ["line 3: not UTF-8 (invalid continuation byte)" in str(p) for p in problems] == [True]
    assert [e.text for e in read_examples(tmp_path / "m.tsv")] == ["one, two"]


def test_what_follows_a_cut_is_said_to_be_missing_and_compressed_shards_are_read(tmp_path: Path) -> None:
    good = json.dumps({"text": "t"}).encode()
    path = shard(
        tmp_path / "a.tar", {f"{n}{x}": good if x == ".json" else b"x" for n in "123" for x in (".flac", ".json")}
    )
    (tmp_path / "z.tar.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.write_bytes(path.read_bytes()[:4000])
    problems: list[ClaraError] = []
    assert len(list(read_examples(path, problems.append))) < 3
    assert re.search(r"behind '2' .*; all that follows it is missing", str(problems[-1]))
    assert [(e.key, e.audio, e.stored) for e in read_examples(tmp_path / "z.tar.gz")] == [
        (n, b"x", None) for n in "123"
    ]
    with pytest.raises(SourceError, match=r"z\.tar\.gz: is compressed: decompress it first"):
        read_clips(tmp_path / "z.tar.gz", lambda error: None)


class Refusing(fsspec.AbstractFileSystem):
    """A store that wants credentials, and says so with an exception of its own."""

    protocol = "refusing"

    def _open(self, path: str, *_: object, **__: object) -> None:
        raise RuntimeError("Unable to locate credentials\nand much more")


@pytest.mark.parametrize("name", ["a.tar", "m.csv", "m.parquet"])
def test_a_store_that_refuses_stops_the_listing_with_its_reason(name: str) -> None:
    fsspec.register_implementation("refusing", Refusing, clobber=True)
    problems: list[ClaraError] = []
    with pytest.raises(SourceError, match=rf"refusing://b/{name}: cannot be read \(Unable to locate credentials\)$"):
        list(read_examples(f"refusing://b/{name}", problems.append))
    with pytest.raises(SourceError, match=r"nosuch://b/a\.tar: cannot be opened \(Protocol not known"):
        list(read_examples("nosuch://b/a.tar", problems.append))
    with pytest.raises(SourceError, match=r"the range is empty"):
        list(read_examples("s-{5..3}.tar"))
    assert not problems

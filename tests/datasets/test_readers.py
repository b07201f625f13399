import io
import json
import re
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clara_search.datasets.readers import matching, read
from clara_search.errors import FormatError


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
    examples = list(read(tmp_path / "*.tar"))
    assert [(e.key, e.audio, e.text, e.language) for e in examples] == [
        ("./x.y/1", b"one", "eins", "de"),
        ("./x.y/2", b"two", "zwei", "und"),
    ]


def test_a_manifest_gives_paths_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,text,speaker,other\na/b.wav,hello,ann,1\nc.wav,bye,,2\n")
    examples = list(read(tmp_path / "m.csv"))
    assert [(e.audio, e.text, e.speaker) for e in examples] == [
        (tmp_path / "a" / "b.wav", "hello", "ann"),
        (tmp_path / "c.wav", "bye", None),
    ]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"1.flac": b"x"}, r"a\.tar: 1 needs one audio file and one \.json, found \.flac"),
        ({"1.json": b"{}"}, r"1 needs one audio file"),
        ({"1.flac": b"x", "1.json": b"{"}, r"1\.json is broken"),
        ({"1.flac": b"x", "1.json": b"{}"}, r"1\.json has no text"),
        ({"1.flac": b"x", "1.json": b"[]"}, r"1\.json has no text"),
    ],
)
def test_a_broken_shard_is_named(members: dict[str, bytes], message: str, tmp_path: Path) -> None:
    shard(tmp_path / "a.tar", members)
    with pytest.raises(FormatError, match=message):
        list(read(tmp_path / "a.tar"))


def test_what_is_no_shard_or_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no file matches"):
        list(read(tmp_path / "*.tar"))
    (tmp_path / "x.tar").write_bytes(b"not a tar")
    with pytest.raises(FormatError, match=r"x\.tar: not a readable tar"):
        list(read(tmp_path / "x.tar"))
    (tmp_path / "m.csv").write_text("path,caption\n")
    with pytest.raises(FormatError, match="no column text"):
        list(read(tmp_path / "m.csv"))
    (tmp_path / "x.zip").write_bytes(b"")
    with pytest.raises(FormatError, match=r"expected a \.tar shard, a \.csv"):
        list(read(tmp_path / "x.zip"))


def test_json_lines_and_parquet_are_manifests_too(tmp_path: Path) -> None:
    rows = [{"path": "a.wav", "text": ["one", "uno"], "split": "test"}, {"path": "b.wav", "text": "two", "split": None}]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "\n")
    plain = [row | {"text": text} for row, text in zip(rows, ("one", "two"), strict=True)]
    pq.write_table(pa.Table.from_pylist(plain), tmp_path / "m.parquet")
    lines, table = list(read(tmp_path / "m.jsonl")), list(read(tmp_path / "m.parquet"))
    assert [(e.text, e.alternatives, e.split) for e in lines] == [("one", ("uno",), "test"), ("two", (), None)]
    assert [(e.key, e.text, e.split, e.audio) for e in table] == [
        ("a.wav", "one", "test", tmp_path / "a.wav"),
        ("b.wav", "two", None, tmp_path / "b.wav"),
    ]


def test_a_folder_has_texts_beside_its_recordings(tmp_path: Path) -> None:
    for name in ("sub/a.WAV", "b.flac", "c.mp3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "sub" / "a.txt").write_text(" a dog \n")
    (tmp_path / "b.json").write_text('{"text": "rain", "language": "zxx"}')
    problems: list[FormatError] = []
    examples = list(read(tmp_path, problems.append))
    assert [(e.key, e.text, e.language) for e in examples] == [("b.flac", "rain", "zxx"), ("sub/a.WAV", "a dog", "und")]
    (problem,) = problems
    assert re.search(r"c\.mp3: has no c\.txt or c\.json beside it", str(problem))


def test_claras_own_shards_nest_the_language_and_list_the_texts(tmp_path: Path) -> None:
    metadata = json.dumps({"text": ["a", "b"], "original_data": {"language": "fy-NL"}}).encode()
    (example,) = read(shard(tmp_path / "a.tar", {"1.flac": b"x", "1.json": metadata}))
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
    problems: list[FormatError] = []
    assert [e.key for e in read(path, problems.append)] == ["2", "4"]
    assert [str(p).split(": ")[1].split()[0] for p in problems] == ["1", "3"]
    path.write_bytes(path.read_bytes()[:5000])
    problems.clear()
    assert [e.key for e in read(path, problems.append)] == ["2"]
    assert "not a readable tar shard" in str(problems[-1])


def test_braces_name_shards_by_number(tmp_path: Path) -> None:
    for number in (8, 9, 10):
        shard(tmp_path / f"s-{number:03}.tar", {"1.flac": b"x", "1.json": json.dumps({"text": str(number)}).encode()})
    assert [e.text for e in read(str(tmp_path / "s-{008..010}.tar"))] == ["8", "9", "10"]
    assert matching("s3://b/{0..1}/x-{08..09}.tar") == [f"s3://b/{a}/x-{b}.tar" for a in "01" for b in ("08", "09")]
    with pytest.raises(FormatError, match=r"no file matches '.*s-011\.tar'"):
        matching(str(tmp_path / "s-{010..011}.tar"))

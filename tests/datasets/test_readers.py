import io
import json
import tarfile
from pathlib import Path

import pytest

from clara_search.datasets.readers import read
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

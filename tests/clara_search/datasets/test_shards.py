"""Groups of WebDataset shards: what is read, what is an error that names its key, and what damage costs."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from clara_search.datasets.shards import ShardExample, read_shard_examples
from clara_search.errors import FormatError
from clara_search.files.limits import limits
from clara_search.files.paths import read_bytes

Entries = list[tuple[str, bytes]]


def tar(entries: Entries, tar_format: int = tarfile.USTAR_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tar_format) as archive:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def zstd(content: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(content, asbytes=True))


def text(value: str) -> bytes:
    return json.dumps({"text": value}).encode()


def read(path: Path, content: bytes, **options: Any) -> list[ShardExample]:
    path.write_bytes(content)
    return list(read_shard_examples(path, **options))


def good(examples: list[ShardExample]) -> list[tuple[str, bytes | None, dict[str, Any]]]:
    return [
        (example.name, example.audio and example.audio.content, dict(example.values))
        for example in examples
        if example.problem is None
    ]


def problems(examples: list[ShardExample]) -> list[str]:
    return [example.problem for example in examples if example.problem is not None]


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([("a.wav", b"1"), ("a.cls", b"7\n")], [("a.wav", b"1", {"label": 7})]),
        ([("a.wav", b"1"), ("a.cls", b"dog")], [("a.wav", b"1", {"label": "dog"})]),
        ([("a.wav", b"1"), ("a.cls", b"007")], [("a.wav", b"1", {"label": "007"})]),
        ([("a.wav", b"1"), ("a.cls", b"7"), ("a.json", b'{"label": 8}')], [("a.wav", b"1", {"label": 8, "cls": 7})]),
        ([("a.TXT", b"\xef\xbb\xbf one \n"), ("a.WAV", b"1")], [("a.wav", b"1", {"text": "one"})]),
        ([("a.wav", b"1"), ("a.txt", b"one"), ("a.json", text("two"))], [("a.wav", b"1", {"text": ["two", "one"]})]),
        ([("a.mix.wav", b"1"), ("a.json", text("one"))], [("a.mix.wav", b"1", {"text": "one"})]),
        ([("a v1.0.wav", b"1"), ("a v1.0.txt", b"one")], [("a v1.0.wav", b"1", {"text": "one"})]),
        ([("d.x/a.wav", b"1"), ("d.x/b.wav", b"2")], [("d.x/a.wav", b"1", {}), ("d.x/b.wav", b"2", {})]),
        ([("a.wav", b"1"), ("a.jpg", b"2"), ("README", b"3"), (".a.wav", b"4")], [("a.wav", b"1", {})]),
        ([("/etc/a.wav", b"1"), ("../b.wav", b"2")], [("/etc/a.wav", b"1", {}), ("../b.wav", b"2", {})]),
        ([("a.txt", b"one"), ("b.json", text("two"))], [("a", None, {"text": "one"}), ("b", None, {"text": "two"})]),
    ],
)
def test_what_stands_beside_a_recording_is_read_with_it(tmp_path: Path, entries: Entries, expected: Any) -> None:
    examples = read(tmp_path / "a.tar", tar(entries))
    assert (good(examples), problems(examples)) == (expected, [])


@pytest.mark.parametrize(
    ("entries", "key", "reason"),
    [
        ([("r v1.0.wav", b"1"), ("r v1.0.json", text("a")), ("r v1.1.wav", b"2")], "r v1", "has 2 recordings (.0.wav"),
        ([("k.mix.wav", b"1"), ("k.voice.wav", b"2"), ("k.json", text("a"))], "k", "`audio_member`, such as 'mix.wav'"),
        ([("k.wav", b"1"), ("k.flac", b"2")], "k", "has 2 recordings (.wav, .flac)"),
        ([("k.wav", b"1"), ("k.WAV", b"2")], "k", "has two members .wav"),
        ([("k.wav", b"1"), ("k.wav", b"1")], "k", "has two members .wav"),
        ([("k.wav", b"1"), ("k.0.json", text("a"))], "k", "it is open what belongs to a recording"),
        ([("k.wav", b"1"), ("k.0.wav.json", text("a"))], "k", "it is open what belongs to a recording"),
        ([("k.0.txt", b"a"), ("k.1.txt", b"b")], "k", "it is open what belongs to a recording"),
        ([("k.wav", b"1"), ("k.json", b"{")], "k", "its JSON: not JSON"),
        ([("k.wav", b"1"), ("k.json", b"[1]")], "k", "its JSON: not a JSON object"),
        ([("k.wav", b"1"), ("k.txt", b"\xff")], "k", "its .txt is not UTF-8"),
        ([("k::x.wav", b"1")], "k::x", "holds '::'"),
        ([("k\udcff.wav", b"1")], "k\\udcff", "not UTF-8: rename it"),
        ([("k.wav", b"1" * 2000)], "k", "2,000 bytes of a member of a shard"),
    ],
)
def test_an_example_that_can_be_read_in_two_ways_names_its_key_and_the_next_is_read(
    tmp_path: Path, entries: Entries, key: str, reason: str
) -> None:
    with limits(member_bytes=1000):
        examples = read(tmp_path / "a.tar", tar([*entries, ("z.wav", b"z"), ("z.txt", b"last")], tarfile.GNU_FORMAT))
    assert good(examples) == [("z.wav", b"z", {"text": "last"})]
    (problem,) = problems(examples)
    assert problem.startswith(f"key '{key}': ")
    assert reason in problem
    assert not any(example.hides_more for example in examples)


@pytest.mark.parametrize(
    ("entries", "rest"),
    [
        ([("a.wav", b"1"), ("b.wav", b"2"), ("a.json", text("a"))], ["a.wav", "b.wav"]),
        ([("a.wav", b"1"), ("a.txt", b"x"), ("b.wav", b"2"), ("a.wav", b"3"), ("a.txt", b"y")], ["a.wav", "b.wav"]),
    ],
)
def test_a_key_that_comes_again_is_never_merged_nor_takes_the_place_of_the_first(
    tmp_path: Path, entries: Entries, rest: list[str]
) -> None:
    examples = read(tmp_path / "a.tar", tar(entries))
    assert [name for name, _, _ in good(examples)] == rest
    assert [problem[:21] for problem in problems(examples)] == ["key 'a': comes again:"]


def test_a_text_without_its_recording_is_no_text_in_a_shard_of_recordings(tmp_path: Path) -> None:
    """As behind a cut between two shards: the recording of the first key is at the end of the shard before."""
    examples = read(tmp_path / "a.tar", tar([("a.json", text("a")), ("b.wav", b"2"), ("c.txt", b"c"), ("d.wav", b"4")]))
    assert [name for name, _, _ in good(examples)] == ["b.wav", "d.wav"]
    assert [problem.split(":")[0] for problem in problems(examples)] == ["key 'a'", "key 'c'"]
    assert {problem.split(": ")[1] for problem in problems(examples)} == {
        "has a text and no recording, in a shard of recordings"
    }


@pytest.mark.parametrize(
    ("member", "entries", "expected"),
    [
        ("mix.wav", ["k.mix.wav", "k.voice.wav", "k.json", "k.voice.txt"], [("k", "k.mix.wav", {"text": "k.json"})]),
        (".WAV", ["k.0.wav", "k.0.json", "k.1.wav", "k.1.json"], [
            ("k.0", "k.0.wav", {"text": "k.0.json"}), ("k.1", "k.1.wav", {"text": "k.1.json"}),
        ]),
        ("wav", ["k.wav", "k.json", "k.flac"], [("k", "k.wav", {"text": "k.json"})]),
        ("wav", ["k.mix.wav", "k.voice.wav", "k.json"], "of which it is open"),
        ("ogg", ["k.wav", "k.json"], "has no recording 'ogg' (it has .wav)"),
    ],
)  # fmt: skip
def test_the_recordings_of_ambiguous_keys_are_chosen_by_what_they_end_in(
    tmp_path: Path, member: str, entries: list[str], expected: Any
) -> None:
    content = tar([(name, text(name) if name.endswith("json") else name.encode()) for name in entries])
    examples = read(tmp_path / "a.tar", content, audio_member=member)
    if isinstance(expected, str):
        assert expected in "".join(problems(examples))
        assert good(examples) == []
    else:
        assert [(example.key, example.name, example.values) for example in examples] == expected


MEMBERS: Entries = [
    (f"{n}{suffix}", (b"%d" % n) * 700 if suffix == ".wav" else text(f"t{n}"))
    for n in range(4)
    for suffix in (".wav", ".json")
]
ALL = ["0.wav", "1.wav", "2.wav", "3.wav"]


def with_bad_header(content: bytes, name: bytes) -> bytes:
    at = content.index(name + b"\0")
    return content[:at] + b"\xff" * 512 + content[at + 512 :]


WHOLE = tar(MEMBERS)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.zst"])
@pytest.mark.parametrize(
    ("content", "pack", "names", "reason"),
    [
        (WHOLE, None, ALL, None),
        (WHOLE, gzip.compress, ALL, None),
        (WHOLE, zstd, ALL, None),
        (WHOLE[:6000], gzip.compress, ["0.wav", "1.wav"], "cut off"),
        (with_bad_header(WHOLE, b"1.wav"), None, ["0.wav", "2.wav", "3.wav"], "are no tar"),
        (with_bad_header(WHOLE, b"1.wav"), zstd, ["0.wav", "2.wav", "3.wav"], "are no tar"),
        (with_bad_header(WHOLE, b"0.wav"), None, ["1.wav", "2.wav", "3.wav"], "are no tar"),
        (WHOLE[: WHOLE.index(b"2.wav\0") + 900], None, ["0.wav", "1.wav"], "cut off"),
        (WHOLE[: WHOLE.index(b"2.wav\0") + 100], None, ["0.wav", "1.wav"], "cut off within a header"),
        (WHOLE[: WHOLE.index(b"2.wav\0")], None, ["0.wav", "1.wav"], "no end mark"),
        (WHOLE[: WHOLE.index(b"2.json\0")], None, ["0.wav", "1.wav", "2.wav"], "no end mark"),
        (WHOLE + tar([("later.wav", b"5")]), None, [*ALL, "later.wav"], None),
        (WHOLE + b"behind the end" * 99, None, ALL, None),
        (tar([("x" * 120 + "é/0.wav", b"1"), ("b.wav", b"2")], tarfile.PAX_FORMAT), None,
         ["x" * 120 + "é/0.wav", "b.wav"], None),
    ],
)  # fmt: skip
def test_damage_costs_what_it_touches_and_is_said(
    tmp_path: Path,
    name: str,
    content: bytes,
    pack: Callable[[bytes], bytes] | None,
    names: list[str],
    reason: str | None,
) -> None:
    """The content decides how a shard is read, not its name."""
    examples = read(tmp_path / name, pack(content) if pack else content)
    assert [found for found, _, _ in good(examples)] == names
    said = [example.problem or "" for example in examples if example.hides_more]
    assert (len(said), (reason or "") in "".join(said)) == (int(reason is not None), True)
    for found, audio, _ in good(examples):
        assert read_bytes(f"tar://{found}::{tmp_path / name}") == audio


@pytest.mark.parametrize("pack", [gzip.compress, zstd])
def test_a_compressed_shard_that_is_cut_off_gives_what_is_whole(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    noise = [(f"{n}.wav", bytes((n * 7919 + i * i * 31) % 251 for i in range(60_000))) for n in range(8)]
    packed = pack(tar(noise))
    examples = read(tmp_path / "a.tar", packed[: len(packed) // 2])
    assert [example.hides_more for example in examples].count(True) == 1
    assert examples[-1].hides_more
    assert good(examples) == [(name, content, {}) for name, content in noise[: len(examples) - 1]]


@pytest.mark.parametrize("type_", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_is_not_followed_and_its_key_is_named(tmp_path: Path, type_: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("k.wav")
        link.type, link.linkname = type_, "/etc/passwd"
        archive.addfile(link)
    (example,) = read_shard_examples(tmp_path / "a.tar")
    assert example.problem == "key 'k': its member .wav: is a link to '/etc/passwd', which is not followed"


@pytest.mark.parametrize(
    "content", [b"", b"not a tar", b"\xff" * 5000, gzip.compress(b"no tar" * 500, mtime=0), b"PK\x03\x04" + bytes(600)]
)
def test_what_is_no_tar_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(FormatError, match=r"a\.tar: not a readable tar shard"):
        read(tmp_path / "a.tar", content)


@pytest.mark.parametrize("size", [-512, -1024, 1 << 62, (1 << 33) - 1])
@pytest.mark.parametrize("pax", [False, True])
@pytest.mark.parametrize("pack", [None, gzip.compress])
def test_a_size_that_cannot_be_ends_the_reading(
    tmp_path: Path, size: int, pax: bool, pack: Callable[[bytes], bytes] | None
) -> None:
    """Python's own reader goes round in circles for a negative size, and counts to the end of a large one."""
    info = tarfile.TarInfo("b.wav")
    if pax:
        info.pax_headers = {"size": str(size)}
    else:
        info.size = size
    header = info.tobuf(tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT)
    content = tar([("a.wav", b"1")])[:1024] + header + tar([("c.wav", b"3")])
    examples = read(tmp_path / "a.tar", pack(content) if pack else content)
    assert good(examples)[0] == ("a.wav", b"1", {})
    assert problems(examples)

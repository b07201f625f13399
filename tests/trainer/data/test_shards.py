import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from clara_search.datasets.readers import read_examples
from clara_search.errors import FormatError, OutputError, SourceError
from tests.helpers import write_tone
from tests.trainer.pretraining.test_run import RATE
from trainer.__main__ import main
from trainer.data.shards import write_shards


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    for number in range(12):
        write_tone(tmp_path / f"{number:02}.wav", 200 + 50 * number, 0.1, RATE)
    return rows(tmp_path / "m.csv", 7)


def rows(path: Path, count: int) -> Path:
    path.write_text("path,text\n" + "".join(f"{number:02}.wav,text {number}\n" for number in range(count)))
    return path


def texts(out: Path) -> list[str]:
    return [x.text for x in read_examples(out / "*.tar")]


def test_shards_follow_a_manifest_that_grows_and_shrinks(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert write_shards(str(manifest), out, per_shard=5, rate=RATE) == (2, 0)
    first = (out / "00000.tar").stat().st_mtime_ns
    for count, shards in ((12, 3), (4, 1), (7, 2)):
        rows(manifest, count)
        assert write_shards(str(manifest), out, per_shard=5, rate=RATE) == (shards, 0)
        assert texts(out) == [f"text {number}" for number in range(count)]
        if count == 12:
            assert (out / "00000.tar").stat().st_mtime_ns == first  # its rows are the same


@pytest.mark.parametrize("damage", ["empty", "cut", "gone", "another recording"])
def test_a_changed_shard_is_written_again(manifest: Path, tmp_path: Path, damage: str) -> None:
    out = tmp_path / "out"
    write_shards(str(manifest), out, per_shard=5, rate=RATE)
    shard = out / "00001.tar"
    content = shard.read_bytes()
    if damage == "gone":
        shard.unlink()
    elif damage == "another recording":
        write_tone(tmp_path / "05.wav", 3000, 0.3, RATE)
    else:
        shard.write_bytes(content[: 0 if damage == "empty" else 2000])
    write_shards(str(manifest), out, per_shard=5, rate=RATE)
    assert (shard.read_bytes() == content) == (damage != "another recording")
    assert len(texts(out)) == 7


def test_other_files_in_the_folder_are_refused_by_name(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "00001.tar").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"00001\.tar: is there, and is no file"):
        write_shards(str(manifest), tmp_path / "out", per_shard=5, rate=RATE)
    write_shards(str(manifest), tmp_path / "other", per_shard=5, rate=RATE)
    (tmp_path / "other" / "00009.tar").write_bytes(b"")
    with pytest.raises(OutputError, match=r"00009\.tar: not one of these shards"):
        write_shards(str(manifest), tmp_path / "other", per_shard=5, rate=RATE)


@pytest.mark.parametrize("content", ["{", "[]", "[" * 5000, None])
def test_a_broken_record_is_named(manifest: Path, tmp_path: Path, content: str | None) -> None:
    record = tmp_path / "out" / "shards.json"
    record.parent.mkdir()
    if content is None:
        record.mkdir()
    else:
        record.write_text(content)
    with pytest.raises(FormatError, match=r"shards\.json: cannot be read"):
        write_shards(str(manifest), tmp_path / "out", per_shard=5, rate=RATE)


@pytest.mark.parametrize("name", ["../letter.tar", "{home}/letter.tar", "audio/00001.tar", "notes.txt", ""])
def test_a_record_removes_nothing_but_shards(manifest: Path, tmp_path: Path, name: str) -> None:
    write_shards(str(manifest), tmp_path / "out", per_shard=5, rate=RATE)
    letter = tmp_path / "letter.tar"
    letter.write_text("precious")
    record = tmp_path / "out" / "shards.json"
    values = json.loads(record.read_text())
    values["shards"][name.format(home=tmp_path)] = {}
    record.write_text(json.dumps(values))
    with pytest.raises(FormatError, match=r"shards\.json: lists other files than shards"):
        write_shards(str(manifest), tmp_path / "out", per_shard=5, rate=RATE)
    assert letter.read_text() == "precious"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "opus", "--rate", "44100"], "Opus has no rate of 44100 Hz"),
        (["--out", "/proc/x"], "/proc/x: cannot be"),
    ],
)
def test_impossible_settings_are_one_line(manifest: Path, tmp_path: Path, options: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["make-shards", str(manifest), "--out", str(tmp_path / "out"), *options])
    assert result.exit_code == 1, result.output
    assert message in result.output
    assert CliRunner().invoke(main, ["make-shards", "m", "--out", "x", "--rate", "1000000"]).exit_code == 2


def test_nothing_to_write_or_to_speak_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "none.csv").write_text("path,text\n")
    with pytest.raises(SourceError, match=r"none\.csv: no recording can be written: it names none"):
        write_shards(str(tmp_path / "none.csv"), tmp_path / "out", per_shard=5, rate=RATE)
    (tmp_path / "bad.csv").write_text("path,text\nx.wav,x\n")
    with pytest.raises(SourceError, match=r"no recording can be written; .*left-out\.txt says why"):
        write_shards(str(tmp_path / "bad.csv"), tmp_path / "bad", per_shard=5, rate=RATE)
    assert not list((tmp_path / "bad").glob("*.tar"))
    assert json.loads((tmp_path / "bad" / "shards.json").read_text())["manifest"].endswith("bad.csv")
    for name, content in (("lines.txt", b"\n \n"), ("ls.txt", b"\x7fELF\xff\xfe")):
        (tmp_path / name).write_bytes(content)
        result = CliRunner().invoke(
            main, ["synthesize", "--texts", str(tmp_path / name), "--out", str(tmp_path / "s.tar")]
        )
        assert result.exit_code == 1, result.output
        assert name in result.output
    assert not (tmp_path / "s.tar").exists()

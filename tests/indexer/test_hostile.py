"""Files as they come: each ends in the ledger with a reason or as a good row, and none costs another."""

from __future__ import annotations

import io
import json
import os
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from clara_search.commands.main import main
from clara_search.store.database import Database
from indexer.ledger.failures import failures
from tests.helpers import ToneEncoder, tone, write_tone

NOISE = np.random.default_rng(0)


def wav(samples: np.ndarray | None = None, rate: int = 16_000, subtype: str = "PCM_16", kind: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, tone(440) if samples is None else samples, rate, subtype=subtype, format=kind)
    return file.getvalue()


def encoded(kind: str, subtype: str | None = None, duration_s: float = 5.0) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, tone(440, duration_s), 16_000, format=kind, subtype=subtype)
    return file.getvalue()


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def header_of_ten_hours() -> bytes:
    size = 10 * 3600 * 16_000 * 2
    return (
        b"RIFF"
        + struct.pack("<I", 36 + size)
        + b"WAVEfmt "
        + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16)
        + (b"data" + struct.pack("<I", size))
    )


def patched(content: bytes, offset: int, value: bytes) -> bytes:
    return content[:offset] + value + content[offset + len(value) :]


GOOD: dict[str, Callable[[], bytes]] = {
    "plain.wav": wav,
    "UPPER.WAV": wav,
    "one-sample.wav": lambda: wav(np.array([0.5], np.float32)),
    "silence.wav": lambda: wav(np.zeros(16_000, np.float32)),
    "constant.wav": lambda: wav(np.ones(16_000, np.float32)),
    "32-channels.wav": lambda: wav(np.tile(tone(440)[:, None], 32)),
    "384-khz.wav": lambda: wav(tone(440, 1.0, 384_000), 384_000),
    "8-khz.wav": lambda: wav(tone(440, 1.0, 8_000), 8_000),
    "11025.wav": lambda: wav(tone(440, 1.0, 11_025), 11_025),
    "float.wav": lambda: wav(subtype="FLOAT"),
    "double.wav": lambda: wav(subtype="DOUBLE"),
    "24-bit.wav": lambda: wav(subtype="PCM_24"),
    "8-bit.wav": lambda: wav(subtype="PCM_U8"),
    "a-law.wav": lambda: wav(subtype="ALAW"),
    "flac-called.wav": lambda: encoded("FLAC"),
    "ogg-called.mp3": lambda: encoded("OGG"),
    "wav-called.flac": wav,
    "trailing-garbage.wav": lambda: wav() + b"\0garbage" * 100,
    "opus.opus": lambda: encoded("OGG", "OPUS"),
    "with space and 'quote'.wav": wav,
    "percent%20and#hash?.wav": wav,
    "new\nline.wav": wav,
    "日本語 ünïcödé.wav": wav,
    "-rf.wav": wav,
    "x" * 251 + ".wav": wav,
    "loud.wav": lambda: wav(100 * tone(440), subtype="FLOAT"),
}
BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty.wav": (lambda: b"", "empty"),
    "text.wav": (lambda: b"this is no sound at all", "not a recording"),
    "html.mp3": (lambda: b"<!DOCTYPE html><html><body>404</body></html>" * 20, "not a recording"),
    "noise.wav": (lambda: NOISE.bytes(4096), "not a recording"),
    "noise.mp3": (lambda: NOISE.bytes(4096), ""),
    "zeros.flac": (lambda: bytes(4096), "not a recording"),
    "picture.ogg": (lambda: b"\x89PNG\r\n\x1a\n" + NOISE.bytes(512), ""),
    "truncated.wav": (lambda: half(wav(tone(440, 5.0))), "truncated"),
    "truncated.flac": (lambda: half(encoded("FLAC")), ""),
    "truncated.mp3": (lambda: half(encoded("MP3")), "truncated"),
    "header-alone.wav": (lambda: wav()[:44], ""),
    "half-a-header.wav": (lambda: wav()[:20], ""),
    "no-samples.wav": (lambda: wav(np.zeros(0, np.float32)), "no samples"),
    "ten-hours-of-nothing.wav": (header_of_ten_hours, ""),
    "nan.wav": (lambda: wav(np.array([0, np.nan, 0], np.float32), subtype="FLOAT"), "not finite"),
    "inf.wav": (lambda: wav(np.array([0, np.inf, 0], np.float32), subtype="FLOAT"), "not finite"),
    "no-rate.wav": (lambda: patched(wav(), 24, struct.pack("<I", 0)), ""),
    "absurd-rate.wav": (lambda: patched(wav(), 24, struct.pack("<I", 1)), ""),
    "no-channels.wav": (lambda: patched(wav(), 22, struct.pack("<H", 0)), ""),
    "zip.m4a": (lambda: b"PK\x03\x04" + NOISE.bytes(512), "not a recording"),
    "broken.mp4": (lambda: b"\0\0\0\x18ftypmp42" + bytes(200), "not a recording"),
}


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name, content in GOOD.items():
        (folder / name).write_bytes(content())
    for name, (content, _) in BAD.items():
        (folder / name).write_bytes(content())
    os.mkfifo(folder / "pipe.wav")
    (folder / "folder.wav").mkdir()
    (folder / "folder.wav" / "inside.wav").write_bytes(wav())
    (folder / "broken-link.wav").symlink_to(folder / "nowhere.wav")
    (folder / "loop.wav").symlink_to(folder / "loop.wav")
    (folder / "link-to-folder").symlink_to(folder)
    Path(os.fsdecode(os.fsencode(folder) + b"/latin-\xe9.wav")).write_bytes(wav())
    (folder / "rows.csv").write_text(
        'path,text\nplain.wav,"quotes "" and\nnewlines, and 日本語"\nplain.wav,twice\ngone.wav,\n'
    )
    (folder / "columns-missing.csv").write_text("code,label\n7,dog\n")
    with tarfile.open(folder / "shard.tar", "w") as tar:
        for name, content in (("a.wav", wav()), ("a.json", b"{broken"), ("b.wav", wav()), ("b.json", b'{"text": "b"}')):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    (folder / "cut.tar").write_bytes((folder / "shard.tar").read_bytes()[:-40_000])
    return folder


def test_each_hostile_file_ends_with_a_reason_or_as_a_row(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clara_search.models.registry.load_encoder", lambda *_, **__: ToneEncoder())
    sources = [hostile / "rows.csv", hostile / "shard.tar", hostile / "cut.tar", hostile]
    arguments = ["index", *map(str, sources), "--db", str(tmp_path / "db"), "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert CliRunner().invoke(main, [*arguments, "--strict"]).exit_code == 1

    assert len(GOOD) + len(BAD) >= 40
    database = Database(tmp_path / "db")
    rows = database.table().scan(["uri", "text", "kind"]).to_pylist()
    captions = [row["text"] for row in rows if row["kind"] == "text"]
    assert sorted(captions) == ['quotes " and\nnewlines, and 日本語', "twice"]
    rows = [row for row in rows if row["kind"] == "audio"]
    indexed = {row["uri"].rpartition("/hostile/")[2]: row["text"] for row in rows if "::" not in row["uri"]}
    assert set(indexed) == {*GOOD, "folder.wav/inside.wav"}
    assert indexed["plain.wav"] == 'quotes " and\nnewlines, and 日本語'
    assert f"tar://b.wav::{hostile / 'shard.tar'}" in {row["uri"] for row in rows}

    reasons = {one["uri"].rpartition("/hostile/")[2]: one["reason"] for one in failures(database)}
    for name, (_, reason) in BAD.items():
        assert reason in reasons[name], (name, reasons[name])
    assert "pipe" in reasons["pipe.wav"]
    assert "UTF-8" in reasons["latin-\\xe9.wav"]
    assert "No such file" in reasons["gone.wav"]
    assert "key 'a': its JSON: not JSON" in reasons["shard.tar#L1"]
    assert any("tar" in reason for name, reason in reasons.items() if name.startswith("cut.tar#"))
    assert all(reason and "\n" not in reason for reason in reasons.values())
    summary = json.loads(result.stdout)
    assert summary["failed"] == len(reasons)

    linked = CliRunner().invoke(main, [*arguments, "--follow-symlinks"])
    assert linked.exit_code == 0
    reasons = {one["uri"].rpartition("/hostile/")[2]: one["reason"] for one in failures(database)}
    assert "No such file" in reasons["broken-link.wav"]
    assert "symbolic links" in reasons["loop.wav"]
    assert database.table().count() == len(rows) + len(captions)


def test_a_manifest_without_its_columns_is_named_before_any_work(hostile: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["index", str(hostile / "columns-missing.csv"), "--db", str(tmp_path / "db")])
    assert result.exit_code == 1
    assert "has no column that names recordings or holds texts (it has code, label)" in result.stderr
    assert "name it with --path-column or --text-column" in result.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_folder_is_listed(tmp_path: Path) -> None:
    write_tone(tmp_path / "a" / "good.wav")
    (tmp_path / "a" / "locked").mkdir(mode=0)
    from indexer.pipeline import index

    assert index([tmp_path / "a"], tmp_path / "db", ToneEncoder()).failed == 1

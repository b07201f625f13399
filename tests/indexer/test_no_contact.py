"""Commands over files of other people contact nobody whom the user did not name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from clara_search.classification.head import Head, HeadConfig
from clara_search.classification.head_files import save_head
from clara_search.models.recorded import RecordedModel
from clara_search.models.registry import DEFAULT_MODEL, load_encoder
from clara_search.store.database import Database
from clara_search.store.schema import TableInfo
from indexer.pipeline import index
from tests.helpers import ROOT, ToneEncoder, write_tone

RECORDER = """
import json, os, socket, sys
attempts = []

def refuse(name):
    def call(*args, **options):
        attempts.append([name, repr(args[0] if name in ("getaddrinfo", "create_connection") else args[-1])])
        raise OSError(101, "no network here")
    return call

for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, refuse(name))
socket.getaddrinfo = refuse("getaddrinfo")
socket.create_connection = refuse("create_connection")
commands, out = json.loads(sys.argv[1]), sys.argv[2]
from click.testing import CliRunner
from clara_search.commands.main import main
results = []
for command in commands:
    if command == ["control"]:
        import urllib.request
        try:
            urllib.request.urlopen("http://control.example/")
        except OSError:
            pass
        continue
    result = CliRunner().invoke(main, command)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    results.append([result.exit_code, result.output])
json.dump([attempts, results], open(out, "w"))
"""


def contacts(commands: list[list[str]], folder: Path) -> tuple[list[list[str]], list[list[object]]]:
    """Run commands in a process whose sockets are recorded and refused; return the attempts, exit codes and outputs."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_TOKEN": "hf_secret", "HF_HOME": str(folder / "hf")}
    environment |= {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "secret", "HF_ENDPOINT": "http://hub.example"}
    out = folder / "out.json"
    command = [sys.executable, "-c", RECORDER, json.dumps(commands), str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    attempts, results = json.loads(out.read_text())
    return attempts, results


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A database, a head and manifests that name models and files of every kind, without a URL that may be fetched."""
    refused = [
        "reference://a.wav::http://leak.example/leak.json",
        "hf://datasets/lab/x/a.wav",
        "ftp://files.example/a.wav",
        "smb://files.example/share/a.wav",
        "github://lab:x@main/a.wav",
        "sftp://files.example/a.wav",
        "filecache::http://files.example/a.wav",
        "//files.example/share/a.wav",
        "\\\\files.example\\share\\a.wav",
    ]
    for number in range(len(refused)):
        write_tone(tmp_path / "in" / f"{number}.wav", 300)
    (tmp_path / "in" / "bad.wav").write_bytes(b"")
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://files.example/a.ts\n#EXT-X-ENDLIST\n"
    sdp = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 files.example\nt=0 0\nm=audio 5004 RTP/AVP 0\n"
    for suffix, text in (
        ("m4a", playlist),
        ("ogg", sdp),
        ("mp3", "ffconcat version 1.0\nfile http://files.example/a\n"),
    ):
        (tmp_path / "in" / f"list.{suffix}").write_text(text)
    (tmp_path / "m.jsonl").write_text("".join(json.dumps({"path": name}) + "\n" for name in refused))
    encoder = load_encoder(DEFAULT_MODEL)
    for name, model in {
        "bundled": RecordedModel(encoder.name, encoder.fingerprint),
        "hub": RecordedModel("lab/small", encoder.fingerprint),
        "url": RecordedModel("http://models.example/m", encoder.fingerprint),
    }.items():
        database = Database(tmp_path / name, create=True)
        index([tmp_path / "in"], database, encoder if name == "bundled" else ToneEncoder(), "good")
        good = database.table("good")
        rows = good.scan(good.schema.names)
        info = TableInfo(model, good.info.dim, good.info.window_s, good.info.hop_s)
        uris = [*refused, "http://files.example/a.wav", "s3://bucket/a.wav", "tar://a.wav::https://files.example/s.tar"]
        rows = rows.slice(0, min(len(uris), rows.num_rows))
        position = rows.schema.get_field_index("uri")
        named = rows.set_column(position, rows.schema.field("uri"), pa.array((uris * 2)[-rows.num_rows :]))
        database.create_table("corpus", info).upsert(named)
    save_head(
        tmp_path / "head",
        Head(HeadConfig("linear", "audio", {"x": ("a", "b")}, encoder.dim, RecordedModel("lab/small", "0" * 64))),
    )
    return tmp_path


@pytest.mark.slow
def test_nobody_is_contacted_whom_the_user_did_not_name(foreign: Path) -> None:
    recording = str(foreign / "in" / "0.wav")
    commands = [["index", str(foreign / "in"), str(foreign / "m.jsonl"), "--db", str(foreign / "new")]]
    commands += [["index", "--retry-failed", "--db", str(foreign / "new")]]
    for name in ("bundled", "hub", "url"):
        db = ["--db", str(foreign / name)]
        commands += [
            ["search", "rain", *db],
            ["search", "--audio", recording, *db],
            ["db", "verify", *db],
            ["classify", *db, "--labels", "a,b"],
            ["index", recording, *db],
            ["index", "--retry-failed", *db, "--table", "good"],
        ]
    commands += [["classify", recording, "--head", str(foreign / "head")], ["models", "list"]]
    attempts, results = contacts(commands, foreign)
    assert attempts == []
    assert results[0][0] == 0, results[0][1]
    assert "9 indexed" in str(results[0][1])
    refusals = [output for _, output in results if "as it is recorded, is not loaded" in str(output)]
    assert len(refusals) >= 2 * 5 + 1  # of two tables, by search twice, verify, classify and index; and of the head


@pytest.mark.slow
def test_the_recorder_sees_a_contact_that_the_user_named(foreign: Path) -> None:
    search = ["search", "rain", "--db", str(foreign / "hub"), "--model", "lab/small"]
    attempts, _ = contacts(
        [["control"], search, ["db", "verify", "--fetch", "--db", str(foreign / "bundled")]], foreign
    )
    for host in ("control.example", "hub.example", "files.example"):
        assert any(host in where for _, where in attempts), attempts

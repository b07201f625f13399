"""Foreign text in the output of commands: shown as escapes, one line each; exact in JSON."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from clara_search.classification.head import Head, HeadConfig
from clara_search.classification.head_files import save_head
from clara_search.commands.main import main
from clara_search.commands.output import json_line
from clara_search.models.recorded import RecordedModel
from clara_search.models.registry import WEIGHTS
from clara_search.store.database import Database
from clara_search.text.printable import printable
from indexer.pipeline import index
from tests.helpers import DIM, ROOT, ToneEncoder, write_tone

HIDDEN = (
    "\x1b]52;c;aGk=\x07\x1b[2J\x9b1A\x9d52;c;aGk=\x9c\u202egnp.\u2066\u200b\u061c\u2028\u2029\r\x08\x7f\U000e0041\ufeff"
)
EVIL = f"e{HIDDEN}\nFORGED: ok"
"""Escape sequences in 7 and 8 bits, bidirectional controls, a line of its own."""


def assert_shown(result: Result, *parts: str) -> str:
    """Check the bytes of both streams, and return them as text."""
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    text = (result.stdout_bytes + result.stderr_bytes).decode("utf-8")
    hidden = {x for x in text if unicodedata.category(x) in {"Cc", "Cf", "Zl", "Zp", "Cs"}} - {"\n"}
    assert not hidden, text
    assert not [line for line in text.splitlines() if line.startswith("FORGED")], text
    for part in parts:
        assert part in text, text
    return text


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], terminal_width=10_000)


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a database, a head, a model and labels whose every name is `EVIL`."""
    monkeypatch.setenv("COLUMNS", "5000")
    write_tone(tmp_path / "in" / f"{EVIL}.wav", 300)
    (tmp_path / "in" / f"bad{EVIL}.wav").write_bytes(b"no sound")
    (tmp_path / "in" / os.fsdecode(b"bad\xff.wav")).write_bytes(b"no sound")
    (tmp_path / "m.jsonl").write_text(
        "".join(
            json.dumps(row) + "\n" for row in ({"text": EVIL, "tag": EVIL}, {"path": EVIL}, {"text": 5}, {"text": "ok"})
        )
    )
    index([tmp_path / "in", tmp_path / "m.jsonl"], tmp_path / "db", ToneEncoder())
    shutil.copytree(WEIGHTS / "clara-small", tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "name": EVIL}))
    (tmp_path / "model" / "README.md").write_text(f"---\nlicense: {EVIL}\n---\n# Card\n{EVIL}\n", encoding="utf-8")
    shape = HeadConfig(
        "linear", "audio", {EVIL: (EVIL, f"{EVIL}2")}, DIM, RecordedModel("tone", ToneEncoder().fingerprint)
    )
    save_head(tmp_path / "head", Head(shape))
    (tmp_path / "labels.txt").write_text(EVIL.replace("\n", "") + "\nb\n", encoding="utf-8")
    info = Database(tmp_path / "db").table().info
    Database(tmp_path / "db").create_table("gone", replace(info, model=RecordedModel(EVIL, EVIL)))
    return tmp_path


def test_commands_show_hidden_characters_of_others_as_escapes(evil: Path) -> None:
    db = ["--db", evil / "db"]
    name = printable(EVIL)
    assert "\\x1b]52" in name
    assert_shown(run("index", evil / "in", evil / "m.jsonl", *db), name, "bad\\xff")
    assert_shown(run("search", EVIL, *db, "--table", "corpus"), "\\x1b]52")
    assert_shown(run("search", "--audio", evil / "in" / f"{EVIL}.wav", *db))
    assert_shown(run("classify", *db, "--labels", evil / "labels.txt"), "\\x1b]52")
    assert_shown(run("classify", *db, "--labels", f"b,{EVIL}"), name)
    assert_shown(run("classify", *db, "--head", evil / "head"), name)
    assert_shown(run("classify", *db, "--head", evil / "head", "--task", "none"), "the head has no task", name[:40])
    assert_shown(run("classify", evil / "in" / f"bad{EVIL}.wav", "--labels", "a,b"), "Error: ")
    assert_shown(run("db", "info", *db), name)
    assert_shown(run("db", "info", *db, "--failures"), f"bad{name}.wav", "bad\\xff")
    assert_shown(run("db", "verify", *db), "model")
    assert_shown(run("ann", "build", *db, "--backend", "flat"), "flat")
    assert_shown(run("models", "show", evil / "model"), name.partition("\\n")[0], "  # Card")
    for wrong in (
        ["search", "x", "--db", f"/no/{EVIL}"],
        ["search", "x", *db, "--table", EVIL],
        ["search", "x", *db, "--table", "gone"],
        ["search", "x", *db, "--model", EVIL],
        ["search", "x", *db, "--where", f"{EVIL} = 1"],
        ["models", "show", EVIL],
        ["index", f"/no/{EVIL}", *db],
        [EVIL],
        ["search", f"--{EVIL}"],
        ["index", "x", *db, "--limit", EVIL],
    ):
        result = run(*wrong)
        assert result.exit_code in (1, 2)
        assert_shown(result)


def test_json_escapes_what_is_hidden_and_reads_back_exactly(evil: Path) -> None:
    db = ["--db", evil / "db"]
    rows = [json.loads(x) for x in assert_shown(run("search", "ok", *db, "--json")).splitlines()]
    assert EVIL in [row["text"] for row in rows]
    assert str(evil / "in" / f"{EVIL}.wav") in [row["uri"] for row in rows]
    failed = [json.loads(x) for x in assert_shown(run("db", "info", *db, "--failures", "--json")).splitlines()]
    assert str(evil / "in" / f"bad{EVIL}.wav") in [row["uri"] for row in failed]
    (described,) = map(json.loads, assert_shown(run("models", "show", evil / "model", "--json")).splitlines())
    assert EVIL in described["card"]
    for text in (EVIL, "\ud800 lone", "été 音 🎵", "\U000e0041", '"\\\x1b"'):
        line = json_line({text: text})
        assert json.loads(line) == {text: text}
        assert "\x1b" not in line
    assert json_line("été 音") == '"été 音"'


@pytest.mark.parametrize("as_json", [False, True], ids=["table", "json"])
def test_a_stream_that_cannot_encode_a_text_gets_escapes_and_no_traceback(evil: Path, as_json: bool) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONPATH": str(ROOT)}
    write_tone(evil / "in" / "été 音.wav", 300)
    command = [sys.executable, "-m", "clara_search.commands.main", "db", "info", "--db", str(evil / "db"), "--failures"]
    done = subprocess.run([*command, *["--json"] * as_json], capture_output=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    done.stdout.decode("ascii")
    assert b"\x1b" not in done.stdout
    if as_json:
        assert all(json.loads(line)["reason"] for line in done.stdout.splitlines())

"""Logs of runs that nobody watches: files, verbosity, lines of progress; and errors of the system on one line."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
from click.testing import CliRunner, Result

from clara_search.commands.main import main
from indexer.pipeline import index
from indexer.runtime import progress
from tests.helpers import ToneEncoder


@pytest.fixture(autouse=True)
def tone_is_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clara_search.models.registry.load_encoder", lambda *_, **__: ToneEncoder())


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["index", *map(str, arguments)])


def test_a_log_file_gets_failures_summaries_and_errors_of_one_run_after_the_other(
    recordings: Path, tmp_path: Path
) -> None:
    (recordings / "bad\nname.wav").write_text("no sound")
    log = tmp_path / "index.log"
    assert run(recordings, "--db", tmp_path / "db", "--log-file", log).exit_code == 0
    assert run(tmp_path / "nowhere", "--db", tmp_path / "db", "--log-file", log).exit_code == 1
    assert run(recordings, "--db", tmp_path / "db", "--strict", "--log-file", log).exit_code == 1
    lines = [re.sub(r"^[-0-9]{10} [:,0-9]{12} ", "", line) for line in log.read_text().splitlines()]
    assert [re.match(r"[A-Z]+ [a-z_.]+: ", line)[0] for line in lines] == [  # type: ignore[index]
        "INFO indexer.write.writer: ",
        "INFO indexer.commands: ",
        "ERROR clara_search.commands.logs: ",
        "INFO indexer.write.writer: ",
        "INFO indexer.commands: ",
        "ERROR clara_search.commands.logs: ",
    ]
    assert "bad name.wav: " in lines[0]
    assert "3 indexed (0 min 3 s of audio), 0 unchanged, 1 failed" in lines[1]
    assert lines[2].endswith("nowhere: no such file or folder")
    assert lines[5].endswith("1 of 4 items could not be used")
    assert not logging.getLogger("indexer").handlers  # of a command that has ended


def test_a_log_file_that_cannot_be_written_is_said_before_any_work(recordings: Path, tmp_path: Path) -> None:
    result = run(recordings, "--db", tmp_path / "db", "--log-file", tmp_path / "no folder" / "log")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {tmp_path}/no folder/log: cannot be written")
    assert not (tmp_path / "db").exists()


def test_verbose_tells_more_on_stderr_and_leaves_stdout_alone(recordings: Path, tmp_path: Path) -> None:
    quiet, once, twice = (
        run(recordings, "--db", tmp_path / f"db{len(flags)}", *flags) for flags in ((), ("-v",), ("-v", "-v"))
    )
    assert quiet.stderr == ""
    assert "INFO indexer.commands: 3 indexed" in once.stderr
    assert "DEBUG indexer.write.writer: committed" not in once.stderr
    assert "DEBUG indexer.write.writer: committed" in twice.stderr
    assert len(quiet.stdout.splitlines()) == len(twice.stdout.splitlines()) == 1


def test_without_a_terminal_progress_is_a_line_now_and_then(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (recordings / "bad.wav").write_text("no sound")
    monkeypatch.setattr(progress, "PROGRESS_S", 0.0)
    result = run(recordings, "--db", tmp_path / "db")
    lines = [line for line in result.stderr.splitlines() if "items, " in line]
    assert len(lines) == 4
    assert lines[-1].startswith("4 of 4 (100%) items, 1 failed, ")
    assert "encode " in lines[-1]
    log = tmp_path / "log"
    result = run(recordings, "--db", tmp_path / "again", "--log-file", log)
    assert "items, " not in result.stderr
    assert log.read_text().count(" items, ") == 4


def test_an_account_without_a_home_gets_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", fail)
    result = CliRunner().invoke(main, ["db", "info", "--db", "s3://bucket/sounds"])
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "set XDG_CACHE_HOME" in result.stderr


@pytest.mark.slow
def test_folders_of_others_and_a_full_disk_behind_stdout_are_one_line(recordings: Path, tmp_path: Path) -> None:
    for name in ("private", "readable"):
        index([recordings], tmp_path / name, ToneEncoder())
    for path in (tmp_path / "readable", *(tmp_path / "readable").rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    (tmp_path / "private").chmod(0)
    as_user: list[str] = []
    if os.geteuid() == 0:  # root may read and write everything, unless it gives that up
        as_user = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
        if subprocess.run([*as_user, "true"], capture_output=True, check=False).returncode:
            pytest.skip("root needs setpriv")
    command = [*as_user, sys.executable, "-m", "clara_search.commands.main"]

    def error_of(*arguments: str | Path, stdout: int | IO[str] = subprocess.PIPE) -> str:
        ended = subprocess.run([*command, *map(str, arguments)], stdout=stdout, stderr=subprocess.PIPE, text=True)
        assert (ended.returncode, ended.stderr.count("\n")) == (1, 1), ended.stderr
        return ended.stderr

    assert "Permission denied" in error_of("db", "info", "--db", tmp_path / "private")
    assert "Permission denied" in error_of("ann", "build", "--db", tmp_path / "readable")
    with Path("/dev/full").open("w") as full:
        readable = tmp_path / "readable"
        assert "No space left on device" in error_of("db", "info", "--db", readable, "--json", stdout=full)

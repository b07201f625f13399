"""A process that waits for a lock says for whom, whatever lies beside the lock."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from clara_search.files import confined
from clara_search.files.holder import describe_holder, note_holder

HOLD = """
import sys
from pathlib import Path
from clara_search.files import confined
folder = Path(sys.argv[1])
with confined.lock(folder, folder / ".corpus.lock"):
    print(flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_a_process_that_waits_names_the_one_that_holds_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confined, "PATIENCE_S", 0.1)
    lock = tmp_path / ".corpus.lock"
    said, taken = threading.Event(), threading.Event()
    messages = list[str]()

    def note(record: logging.LogRecord) -> bool:
        messages.append(record.getMessage())
        said.set()
        return True

    monkeypatch.setattr(confined.log, "filters", [note])

    def take() -> None:
        with confined.lock(tmp_path, lock):
            taken.set()

    command = [sys.executable, "-c", HOLD, str(tmp_path), "s3://me:secret@bucket/x"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "\n"
        waiter = threading.Thread(target=take)
        waiter.start()
        assert said.wait(60)
        assert not taken.is_set()
        process.kill()
        waiter.join(60)
    assert taken.is_set()
    (message,) = messages
    assert message.startswith(f"waiting for {lock}, which process {process.pid} on {socket.gethostname()} (-c ")
    assert f"(-c {tmp_path} s3://bucket/x), since 20" in message
    assert [path.name for path in tmp_path.iterdir()] == [".corpus.lock"]


def test_a_holder_that_was_killed_is_not_blamed_for_a_lock_of_another(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    note_holder(tmp_path / "x.lock")
    note = tmp_path / "x.lock.holder"
    assert describe_holder(tmp_path / "x.lock").startswith(f"process {os.getpid()} on ")
    assert "ended" not in describe_holder(tmp_path / "x.lock")
    note.write_text(note.read_text().replace(str(os.getpid()), str(ended.pid)))
    shown = describe_holder(tmp_path / "x.lock")
    assert shown.endswith(", which has ended: another one that left no note holds the lock")


@pytest.mark.parametrize(
    "note",
    [b"", b"\xff", b"[1]", b"{}", b'{"pid": 1e999, "host": 1, "command": 1, "since": 1}', b"[" * 4096, b"1" * 10_000],
    ids=["empty", "binary", "list", "nothing", "infinite", "deep", "large"],
)
def test_a_note_that_says_nothing_is_no_error(tmp_path: Path, note: bytes) -> None:
    (tmp_path / "x.lock.holder").write_bytes(note)
    assert describe_holder(tmp_path / "x.lock") == "another process"


def test_a_note_of_a_stranger_is_shown_on_one_line_and_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    note = tmp_path / "x.lock.holder"
    note.write_text('{"pid": 7, "host": "a\\nb\\u001b[2J", "command": "%s", "since": 1e9}' % ("x" * 1000))
    shown = describe_holder(tmp_path / "x.lock")
    assert shown.startswith("process 7 on a?b?[2J (xxx")
    assert len(shown) < 300
    note.unlink()
    (tmp_path / "other").write_text("precious")
    for link in (note.symlink_to, note.hardlink_to):
        link(tmp_path / "other")
        note_holder(tmp_path / "x.lock")
        assert (tmp_path / "other").read_text() == "precious"
        note.unlink()
    os.mkfifo(note)
    assert describe_holder(tmp_path / "x.lock") == "another process"

"""Calls of the operating system, also as macOS and Windows need them, as far as that can be seen on Linux."""

from __future__ import annotations

import fcntl
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from clara_search import system


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module as Windows imports it, beside an `os` and a `signal` without POSIX's names."""
    monkeypatch.setattr(sys, "platform", "win32")
    for name in ("O_NOFOLLOW", "O_NONBLOCK"):
        monkeypatch.delattr(os, name)
    monkeypatch.setattr(os, "O_BINARY", 0x8000, raising=False)
    monkeypatch.delattr("signal.SIGKILL")
    monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0x200, raising=False)
    yield importlib.reload(system)
    monkeypatch.undo()
    importlib.reload(system)


def test_windows_syncs_files_that_are_open_for_writing_and_none_of_posix_names_is_needed(
    windows: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    real_open = os.open

    def open_(path: str, flags: int) -> int:
        opened.append(flags)
        return real_open(path, flags & ~0x8000)

    monkeypatch.setattr(os, "open", open_)
    (tmp_path / "file").write_bytes(b"content")
    windows.sync_file(str(tmp_path / "file"))
    assert opened == [os.O_RDWR | 0x8000]
    assert windows.NO_LINK_FLAGS == windows.READ_FLAGS == os.O_RDONLY | 0x8000
    assert windows.KILLED == 1
    assert windows.detached() == {"creationflags": 0x200}


def test_macos_empties_the_cache_of_the_disk_and_falls_back_where_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append("fsync"))
    monkeypatch.setattr(fcntl, "fcntl", lambda descriptor, command: calls.append(command))
    (tmp_path / "file").write_bytes(b"content")
    system.sync_file(str(tmp_path / "file"))
    assert calls == [51]

    def refuse(descriptor: int, command: int) -> int:
        raise OSError("not supported")

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    system.sync_file(str(tmp_path / "file"))
    assert calls == [51, "fsync"]


def test_a_file_that_is_gone_needs_no_sync(tmp_path: Path) -> None:
    system.sync_file(str(tmp_path / "gone"))


def test_a_detached_process_is_out_of_reach_of_the_terminal() -> None:
    command = [sys.executable, "-c", "import os; print(os.getsid(0))"]
    session = subprocess.run(command, capture_output=True, text=True, check=True, **system.detached()).stdout
    assert int(session) != os.getsid(0)

"""A commit is on the disk when it returns, and nothing is brought there twice without need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clara_search.store.fsync import FolderSync


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are synced from now on; they are synced all the same."""
    names: list[str] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_file() and ".synced" not in path.name:
            names.append(path.name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    return names


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "t.lance" / "data").mkdir(parents=True)
    for number in range(100):
        (tmp_path / "t.lance" / "data" / f"{number:03}").write_text("rows")
    return tmp_path / "t.lance"


def taken(names: list[str]) -> list[str]:
    synced = sorted(names)
    names.clear()
    return synced


def test_the_first_commit_of_a_process_syncs_only_what_no_process_has_synced(table: Path, synced: list[str]) -> None:
    notes = table.with_name(".t.synced")
    FolderSync(table, notes)()
    assert len(taken(synced)) == 100
    (table / "data" / "new").write_text("of a process that was killed before it synced")
    (table / "data" / "007").unlink()
    (table / "data" / "007").write_text("rows")  # as a version that was rolled back is written again
    sync = FolderSync(table, notes)
    sync()
    assert taken(synced) == ["007", "new"]
    sync()
    assert taken(synced) == []
    (table / "data" / "last").write_text("x")
    sync()
    assert taken(synced) == ["last"]


@pytest.mark.parametrize("damage", ["lost", "cut short", "a link", "a folder", "no text"])
def test_notes_that_cannot_be_trusted_cost_time_and_no_durability(
    table: Path, synced: list[str], tmp_path: Path, damage: str
) -> None:
    notes = table.with_name(".t.synced")
    FolderSync(table, notes)()
    taken(synced)
    whole = notes.read_text()
    notes.unlink()
    outside = tmp_path / "outside"
    outside.write_text(whole)
    if damage == "cut short":
        notes.write_text(whole[: len(whole) // 2])
    elif damage == "a link":
        notes.symlink_to(outside)
    elif damage == "a folder":
        notes.mkdir()
    elif damage == "no text":
        notes.write_bytes(b"\xff\xfe")
    FolderSync(table, notes)()
    count = len(taken(synced))
    assert 45 < count < 55 if damage == "cut short" else count == 100
    assert outside.read_text() == whole

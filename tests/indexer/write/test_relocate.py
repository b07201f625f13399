"""Rows that are named anew or deleted: table and ledger agree, whenever it is killed."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from clara_search.errors import DatabaseError, QueryError
from clara_search.store.database import Database
from clara_search.store.keyed_table import KeyedTable
from indexer.ledger.failures import stored_ledger
from indexer.ledger.reconcile import open_ledger
from indexer.pipeline import index
from indexer.write.delete import delete_rows
from indexer.write.relocate import Prefix, relocate_rows
from tests.helpers import ToneEncoder, write_tone
from tests.tables import table_of, unit_vectors


class Killed(BaseException):
    """What ends a run at a commit."""


@pytest.fixture
def kill_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """Return a function after which the commit of that number, from 0, is the end; None: none is."""
    left: list[int | None] = [None]
    commit = KeyedTable._commit

    def counted(table: KeyedTable, write: Callable[[], Any]) -> None:
        if left[0] is not None:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
        commit(table, write)

    monkeypatch.setattr(KeyedTable, "_commit", counted)
    return lambda number: left.__setitem__(0, number)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder with recordings, one that cannot be read, a shard, a manifest with columns and segments, and a text."""
    folder = tmp_path / "old"
    write_tone(folder / "a.wav", 300, duration_s=12)
    write_tone(folder / "in" / "b.wav", 500)
    (folder / "broken.wav").write_text("no sound")
    (folder / "m.csv").write_text("path,text,take,start_s,end_s\nin/b.wav,tone,1,0,0.5\n,words,2,,\n")
    (folder / "captions.csv").write_text("path,text\nin/e.wav,one\nin/e.wav,two\n")
    write_tone(folder / "in" / "e.wav", 1100)
    (folder / "t.txt").write_text("a line\n")
    with tarfile.open(folder / "s.tar", "w") as archive:
        archive.add(write_tone(tmp_path / "c.wav", 700), "c.wav")
    (tmp_path / "older").mkdir()
    write_tone(tmp_path / "older" / "d.wav", 900)
    for path in tmp_path.rglob("*.*"):
        os.utime(path, (1.6e9, 1.6e9))  # older than a tick of the clock: their stamps are known
    return folder


def sources(folder: Path) -> list[Path]:
    return [
        folder / "captions.csv",
        folder,
        folder / "m.csv",
        folder / "t.txt",
        folder / "s.tar",
        folder.parent / "older",
    ]


def names(database: Database, root: Path) -> list[tuple[Any, ...]]:
    """All rows, and all entries, with the names that they have in `root`."""
    columns = [name for name in database.table().schema.names if name != "content_hash"]
    rows = [tuple(str(row[name]) for name in columns) for row in database.table().scan(columns).to_pylist()]
    ledger = stored_ledger(database, "corpus")
    assert ledger is not None
    columns = ["key", "uri", "source", "status", "stamp", "signature"]
    rows += [tuple(str(row[name]) for name in columns) for row in ledger.scan(columns).to_pylist()]
    return sorted(tuple(value.replace(str(root), "ROOT") for value in row) for row in rows)


def test_what_was_relocated_is_as_if_indexed_there(tmp_path: Path, old: Path, database: Database) -> None:
    index(sources(old), database, ToneEncoder())
    before = database.table().count()
    shutil.copytree(old, tmp_path / "new")
    index(sources(tmp_path / "new"), tmp_path / "fresh", ToneEncoder())
    assert relocate_rows(database, old, tmp_path / "new", dry_run=True).rows == 10
    result = relocate_rows(database, old, tmp_path / "new")
    assert (result.rows, result.items, result.present) == (10, 8, 0)
    shutil.rmtree(old)
    assert database.table().count() == before == 11
    assert names(database, tmp_path / "new") == names(Database(tmp_path / "fresh"), tmp_path / "new")
    again = ToneEncoder()
    summary = index(sources(tmp_path / "new"), database, again, prune=True)
    assert (summary.indexed, summary.unchanged, summary.failed, summary.removed) == (0, 8, 1, 0)
    assert again.clips_encoded == again.texts_encoded == 0
    with pytest.raises(DatabaseError, match="nothing in table 'corpus' has a name below it"):
        relocate_rows(database, old, tmp_path / "new")


@pytest.mark.parametrize("number", range(5))
def test_a_relocation_that_is_killed_loses_nothing_and_is_completed_by_the_next(
    tmp_path: Path, old: Path, database: Database, kill_at: Callable[[int | None], None], number: int
) -> None:
    index(sources(old), database, ToneEncoder())
    old.rename(tmp_path / "new")
    kill_at(number)
    try:
        relocate_rows(database, old, tmp_path / "new")
    except Killed:
        kill_at(None)
        ledger, _ = open_ledger(database, database.table())
        table = {row["id"] for row in database.table().scan(["id"]).to_pylist()}
        assert {id_ for entry in ledger.scan() for id_ in entry.row_ids} <= table
        relocate_rows(database, old, tmp_path / "new")
    else:
        assert number == 4
    kill_at(None)
    index(sources(tmp_path / "new"), tmp_path / "fresh", ToneEncoder())
    again = ToneEncoder()
    index(sources(tmp_path / "new"), database, again)
    assert (again.clips_encoded, again.texts_encoded) == (0, 0)
    assert names(database, tmp_path / "new") == names(Database(tmp_path / "fresh"), tmp_path / "new")


def test_a_recording_that_is_there_with_other_content_stops_the_relocation(
    tmp_path: Path, old: Path, database: Database
) -> None:
    write_tone(tmp_path / "new" / "in" / "b.wav", 4000)
    index([old, tmp_path / "new"], database, ToneEncoder())
    before = names(database, tmp_path)
    with pytest.raises(DatabaseError, match=r"new/in/b\.wav: is there already with other content"):
        relocate_rows(database, old, tmp_path / "new")
    assert names(database, tmp_path) == before


def test_a_folder_that_was_indexed_under_both_names_has_one_set_of_rows(
    tmp_path: Path, old: Path, database: Database
) -> None:
    index([old], database, ToneEncoder())
    shutil.copytree(old, tmp_path / "new")
    index([tmp_path / "new"], database, ToneEncoder())
    assert database.table().count() == 8
    result = relocate_rows(database, old, tmp_path / "new")
    assert (result.rows, result.present) == (4, 4)
    assert database.table().count() == 4
    assert index([tmp_path / "new"], database, ToneEncoder()).unchanged == 3


@pytest.mark.parametrize(
    ("old", "new", "name", "expected"),
    [
        ("/a", "/b", "/a/x.wav", "/b/x.wav"),
        ("/a/", "/b/", "/a/x.wav", "/b/x.wav"),
        ("/a", "/b", "/ab/x.wav", None),
        ("/a", "/b", "/a", "/b"),
        ("/a/m.csv", "/b/n.csv", "/a/m.csv#L3", "/b/n.csv#L3"),
        ("/a/m.csv", "/b/n.csv", "/a/m.csv2", None),
        ("/a", "/b", "tar://k.wav::/a/s.tar", "tar://k.wav::/b/s.tar"),
        ("/a", "/b", "tar:///a/k.wav::/c/s.tar", None),
        ("/a/s.tar", "s3://b/s.tar", "tar://k.wav::/a/s.tar", "tar://k.wav::s3://b/s.tar"),
        ("/a", "s3://b/c/", "/a/x.wav", "s3://b/c/x.wav"),
        ("s3://b", "/", "s3://b/x.wav", "/x.wav"),
        ("/", "/root", "/x.wav", None),
        ("/a'b", "/c%_", "/a'b/x.wav", "/c%_/x.wav"),
        ("https://u:p@h/a", "https://h/b", "https://h/a/x.wav", "https://h/b/x.wav"),
    ],
)
def test_names_are_moved_by_whole_parts(
    old: str, new: str, name: str, expected: str | None, database: Database
) -> None:
    try:
        prefix = Prefix.parse(old, new)
    except DatabaseError:
        assert expected is None
        return
    assert prefix.move(name) == expected
    table = table_of(database, unit_vectors(1))
    row = table.scan(table.schema.names)
    table.upsert(row.set_column(row.schema.get_field_index("uri"), "uri", [[name]]))
    assert table.count(prefix.where("uri")) == int(expected is not None)


@pytest.mark.parametrize(("old", "new"), [("/a", "/a"), ("/a", "/a/b"), ("/", "/a")])
def test_a_path_is_not_relocated_into_itself(old: str, new: str, database: Database) -> None:
    with pytest.raises(DatabaseError, match="relocate"):
        relocate_rows(database, old, new)


@pytest.mark.parametrize(
    ("where", "rows", "items", "indexed"),
    [
        ("uri LIKE '%b.wav'", 2, 2, 2),
        ("kind = 'text'", 4, 3, 3),
        ("start_s > 1", 1, 1, 1),
        ("true", 11, 8, 8),
        ("uri = 'none'", 0, 0, 0),
    ],
)
def test_what_was_deleted_is_no_longer_known_as_done(
    old: Path, database: Database, where: str, rows: int, items: int, indexed: int
) -> None:
    index(sources(old), database, ToneEncoder())
    before = names(database, old)
    planned = delete_rows(database, where, dry_run=True)
    assert names(database, old) == before
    result = delete_rows(database, where)
    assert result == planned
    assert (result.rows, result.items, result.remaining) == (rows, items, 11 - rows)
    assert database.table().count() == 11 - rows
    assert index(sources(old), database, ToneEncoder()).indexed == indexed
    assert names(database, old) == before


@pytest.mark.parametrize("number", range(3))
def test_a_deletion_that_is_killed_is_consistent(
    old: Path, database: Database, kill_at: Callable[[int | None], None], number: int
) -> None:
    index(sources(old), database, ToneEncoder())
    before = names(database, old)
    kill_at(number)
    try:
        delete_rows(database, "kind = 'audio'")
    except Killed:
        assert number < 2
    kill_at(None)
    assert delete_rows(database, "kind = 'audio'").remaining == 4
    index(sources(old), database, ToneEncoder())
    assert names(database, old) == before


def test_a_filter_that_cannot_be_read_whole_deletes_nothing(old: Path, database: Database) -> None:
    index(sources(old), database, ToneEncoder())
    with pytest.raises(QueryError):
        delete_rows(database, "kind = 'audio' AN start_s > 1")
    assert database.table().count() == 11


def change(database: Path, old: Path, new: Path) -> None:
    with suppress(DatabaseError):  # the other one was first
        relocate_rows(database, old, new)
    delete_rows(database, "kind = 'text'")
    index(sources(new)[:3], database, ToneEncoder())


@pytest.mark.slow
def test_two_processes_that_change_a_table_at_once_leave_it_as_one_would(
    tmp_path: Path, old: Path, database: Database
) -> None:
    index(sources(old)[:3], database, ToneEncoder())
    old.rename(tmp_path / "new")
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=change, args=(database.path, old, tmp_path / "new")) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    index(sources(tmp_path / "new")[:3], tmp_path / "fresh", ToneEncoder())
    index(sources(tmp_path / "new")[:3], database, ToneEncoder())
    assert names(database, tmp_path / "new") == names(Database(tmp_path / "fresh"), tmp_path / "new")

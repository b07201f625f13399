"""A table is compacted by what lies on the disk, and what was deleted leaves it."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import pytest

from clara_search.store.compaction import FULL_FRAGMENT_ROWS, Layout, Version
from clara_search.store.database import Database
from clara_search.store.table import Table
from indexer.pipeline import index
from tests.helpers import ToneEncoder
from tests.tables import rows, table_of, unit_vectors

DAY = 86_400.0
NOW = 100 * DAY


def layout(*versions: tuple[float, int], fragments: int = 1, count: int = 1000, largest: int | None = None) -> Layout:
    """A table with versions of these ages, in days, and numbers of deleted rows."""
    ages = [Version(NOW - age * DAY, deleted) for age, deleted in versions]
    return Layout(fragments, count, count if largest is None else largest, ages)


@pytest.mark.parametrize(
    ("state", "before", "after"),
    [
        (layout((0, 0)), False, False),
        (layout((8, 0)), False, False),
        (layout((8, 0), (0, 0)), False, False),
        (layout((9, 0), (8, 0)), True, True),
        (layout((6, 0), (5, 0)), False, False),
        (layout((0, 0), fragments=33), True, True),
        (layout((0, 0), fragments=33, count=33 * FULL_FRAGMENT_ROWS), False, False),
        (layout((0, 100)), False, False),
        (layout((0, 101)), True, False),
        (layout((0, 301)), True, True),
        (layout((8, 0), (8, 1), (0, 2)), True, False),
        (layout((8, 1), (6, 0), (0, 2)), False, False),
        (layout((8, 1), (0, 2), count=2 * FULL_FRAGMENT_ROWS, largest=FULL_FRAGMENT_ROWS), False, False),
        (layout(*[(8, 0)] * 64, (0, 0)), True, False),
        (layout(*[(8, 0)] * 63, (0, 0)), False, False),
        (layout(*[(0.5, 0)] * 64, (0, 0)), False, False),
        (layout((8, 0), *[(0, 0)] * 8), False, False),
        (layout((8, 0), *[(0, 0)] * 9), False, True),
        (layout((6, 0), *[(0, 0)] * 9), False, False),
    ],
)
def test_what_a_table_is_compacted_for_between_runs(state: Layout, before: bool, after: bool) -> None:
    """The run began a tenth of a day ago."""
    assert state.wants_compaction("before", 7, NOW) == before
    assert state.wants_compaction("after", 7, NOW, since=NOW - 0.1 * DAY) == after


def test_a_table_that_grows_is_written_anew_about_twice_in_all() -> None:
    written, sizes = 0, [0]
    for _ in range(4000):
        sizes.append(512)
        state = Layout(len(sizes), sum(sizes), max(sizes), [])
        if state.wants_compaction_while_growing():
            written += min(sum(sizes), 2 * FULL_FRAGMENT_ROWS)
            full, rest = divmod(sum(sizes), FULL_FRAGMENT_ROWS)
            sizes = [FULL_FRAGMENT_ROWS] * full + [rest]
    assert written < 2.5 * 4000 * 512


def content(table: Table) -> bytes:
    folder = table.connection.table_folder(table.name)
    assert folder is not None
    return b"".join(path.read_bytes() for path in folder.rglob("*.*") if path.is_file())


def footprint(database: Path) -> tuple[int, int]:
    """Files and bytes."""
    sizes = [path.stat().st_size for path in database.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 60])
@pytest.mark.parametrize("size", [100, 1])
def test_the_vectors_of_deleted_rows_leave_the_disk(database: Database, count: int, size: int) -> None:
    vectors = unit_vectors(100)
    table = database.create_table("corpus", table_of(database, unit_vectors(1), name="other").info)
    for start in range(0, 100, size):
        table.upsert(rows(vectors[start : start + size], ids=[f"{number:03}" for number in range(start, start + size)]))
    table.delete_ids([f"{number:03}" for number in range(count)])
    assert all(vector.tobytes() in content(table) for vector in vectors)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert table.compact_if_worthwhile("after", retain_days=0)
        table.compact(retain_days=1e12)
    stored = content(table)
    assert [vector.tobytes() in stored for vector in vectors] == [False] * count + [True] * (100 - count)
    assert table.count() == 100 - count
    assert not table.compact_if_worthwhile("before", retain_days=0)


def test_versions_younger_than_asked_are_kept(database: Database) -> None:
    table = table_of(database, unit_vectors(100))
    vectors = unit_vectors(100)
    table.delete_ids([f"{number:06d}" for number in range(50)])
    assert table.compact_if_worthwhile("after", retain_days=7)
    assert vectors[0].tobytes() in content(table)


def test_a_table_that_nobody_wrote_to_for_long_is_compacted_without_a_copy(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = table_of(database, unit_vectors(2000))
    table.upsert(rows(unit_vectors(20, seed=1), ids=[f"{number:06d}" for number in range(20)]))
    _, before = footprint(database.path)
    tomorrow = time.time() + DAY
    monkeypatch.setattr("clara_search.store.keyed_table.time.time", lambda: tomorrow)
    assert table.compact_if_worthwhile("before", retain_days=0.5)
    _, after = footprint(database.path)
    assert after < 1.02 * before
    assert len(table._lance.list_versions()) == 1
    assert table.count() == 2000
    assert not table.compact_if_worthwhile("before", retain_days=0.5)


def test_what_a_run_itself_replaces_is_not_kept_and_what_was_there_before_is(database: Database) -> None:
    table = database.create_table("corpus", table_of(database, unit_vectors(1), name="other").info)
    vectors = unit_vectors(2000)
    for start in range(0, 2000, 25):
        table.upsert(rows(vectors[start : start + 25], ids=[f"{number:04}" for number in range(start, start + 25)]))
    assert footprint(database.path / "corpus.lance")[0] > 200
    assert table.compact_if_worthwhile("after", retain_days=0.5, since=time.time() - 600)
    assert footprint(database.path / "corpus.lance")[0] < 8
    since = time.time()
    table.delete_ids([f"{number:04}" for number in range(1000)])
    table.compact(retain_days=0.5)
    assert vectors[0].tobytes() in content(table)
    table.compact(retain_days=0.5, since=since)
    assert vectors[0].tobytes() in content(table)  # the compacted version is from before
    table.compact(retain_days=0)
    since = time.time()
    table.delete_ids([f"{number:04}" for number in range(1000, 2000, 2)])
    table.compact(retain_days=0.5, since=since - 60)
    assert vectors[1000].tobytes() not in content(table)
    assert table.count() == 500


def test_row_ids_outlive_the_removal_of_few_rows(database: Database) -> None:
    table = table_of(database, unit_vectors(100))
    before = {table.rows([row])[0]["id"]: row for row in table.row_ids()}
    table.delete_ids(["000007"])
    table.compact(retain_days=0)
    del before["000007"]
    assert {table.rows([row])[0]["id"]: row for row in table.row_ids()} == before


def test_what_is_written_anew_is_on_the_disk_before_the_old_files_are_deleted(database: Database) -> None:
    table = table_of(database, unit_vectors(100))
    table.upsert(rows(unit_vectors(100, seed=1), ids=[f"more {number}" for number in range(100)]))
    folder = database.table_folder("corpus")
    assert folder is not None
    old = set((folder / "data").iterdir())
    seen: list[set[Path]] = []
    sync = table._sync

    def note() -> None:
        seen.append(set((folder / "data").iterdir()))
        sync()

    table._sync = note
    table.compact(retain_days=0)
    new = set((folder / "data").iterdir())
    assert not new & old
    assert seen[0] == old | new
    assert seen[-1] == new


@pytest.mark.slow
@pytest.mark.parametrize("retain_days", [0, 1e-7])
def test_nightly_runs_keep_a_database_small(tmp_path: Path, retain_days: float) -> None:
    lines = tmp_path / "captions.txt"
    texts = [f"caption {number}" for number in range(500)]

    def run(name: str) -> tuple[int, int]:
        lines.write_text("\n".join(texts))
        for _ in range(2 if retain_days else 1):
            index([lines], Database(tmp_path / name, create=True), ToneEncoder(), prune=True, retain_days=retain_days)
            # Once the retention is over, the next run, which changes nothing, drops what was kept for it.
            time.sleep(10 * retain_days * DAY)
        return footprint(tmp_path / name)

    run("db")
    nights = []
    for night in range(12):
        texts[night * 5 : night * 5 + 5] = [f"changed {night} {number}" for number in range(5)]
        texts.pop()
        nights.append(run("db"))
    _, fresh = run("fresh")
    assert max(files for files, _ in nights) <= 64
    assert max(size for _, size in nights) <= 1.5 * fresh
    assert Database(tmp_path / "db").table().count() == 488

"""Recordings and texts that were moved keep their rows, and copies get rows of their own."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from clara_search.store.database import Database
from indexer.ledger.failures import stored_ledger
from indexer.pipeline import index
from indexer.sources.memory import Recording
from tests.helpers import ToneEncoder, tone, write_tone


@pytest.fixture
def old(tmp_path: Path) -> Path:
    folder = tmp_path / "all" / "old"
    write_tone(folder / "a.wav", 300, duration_s=12)
    write_tone(folder / "in" / "b.wav", 500)
    write_tone(folder / "in" / "b2.wav", 500)
    (folder / "m.csv").write_text("path,text,take\na.wav,first,1\n,words,2\n")
    (folder / "t.txt").write_text("a line\n")
    with tarfile.open(folder / "s.tar", "w") as archive:
        archive.add(write_tone(tmp_path / "c.wav", 700), "c.wav")
    return folder


def listed(folder: Path) -> list[Path]:
    return [folder / "m.csv", folder, folder / "t.txt", folder / "s.tar"]


def rows(database: Database) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in database.table().scan(database.table().schema.names).to_pylist()}


def keys(database: Database) -> list[str]:
    ledger = stored_ledger(database, "corpus")
    assert ledger is not None
    return sorted(ledger.scan(["key"])["key"].to_pylist())


@pytest.mark.parametrize("prune", [False, True])
def test_a_moved_folder_keeps_its_rows_under_their_new_names(
    tmp_path: Path, old: Path, database: Database, prune: bool
) -> None:
    index(listed(old), database, ToneEncoder())
    before = rows(database)
    new = old.rename(old.parent / "new")
    again = ToneEncoder()
    summary = index(listed(new), database, again, prune=prune)
    assert (again.clips_encoded, again.texts_encoded) == (0, 0)
    assert (summary.indexed, summary.reused, summary.rows) == (6, 6, len(before))
    index(listed(new), tmp_path / "fresh", ToneEncoder())
    assert rows(database) == rows(Database(tmp_path / "fresh"))
    assert keys(database) == keys(Database(tmp_path / "fresh"))
    assert index(listed(new), database, again).unchanged == 6


def test_a_moved_recording_keeps_the_values_that_its_new_listing_does_not_have(old: Path, database: Database) -> None:
    index(listed(old), database, ToneEncoder())
    table = database.table()
    labels = table.scan(["id", "start_s"], "uri LIKE '%a.wav'").to_pylist()
    labelled = table.scan(table.schema.names, "uri LIKE '%a.wav'")
    named = [f"window {row['start_s']:g}" for row in labelled.to_pylist()]
    table.upsert(labelled.append_column("label", pa.array(named, pa.string())))
    new = old.rename(old.parent / "new")
    index([new], database, ToneEncoder())
    found = database.table().scan(["start_s", "text", "take", "label"], "uri LIKE '%/new/a.wav'").to_pylist()
    assert len(found) == len(labels) == 2
    assert all((row["text"], row["take"]) == ("first", 1) for row in found)
    assert all(row["label"] == f"window {row['start_s']:g}" for row in found)
    assert index([new], database, ToneEncoder()).unchanged == 3
    (new / "m.csv").write_text("path,text,take\na.wav,second,\n")
    index([new / "m.csv"], database, ToneEncoder())
    assert database.table().count("text = 'second' AND uri LIKE '%a.wav'") == 2


def test_a_copy_has_rows_of_its_own_and_so_has_what_is_only_away(old: Path, database: Database) -> None:
    index([old], database, ToneEncoder())
    shutil.copytree(old, old.parent / "copy")
    index([old.parent / "copy"], database, ToneEncoder())
    assert database.table().count() == 8
    # Nothing is mounted at `old` now: its folder is there, and empty.
    shutil.rmtree(old)
    old.mkdir()
    shutil.copytree(old.parent / "copy", old.parent / "second")
    index([old.parent / "second"], database, ToneEncoder())
    assert database.table().count() == 12


def test_recordings_in_memory_and_in_tables_have_no_file_that_could_be_gone(tmp_path: Path, database: Database) -> None:
    wav = write_tone(tmp_path / "x.wav", 440).read_bytes()
    for name in ("one", "two"):
        table = pa.table({"audio": [{"bytes": wav, "path": None}], "text": ["same"]})
        parquet.write_table(table, tmp_path / f"{name}.parquet")
        index([tmp_path / f"{name}.parquet"], database, ToneEncoder())
        index([Recording(name, tone(880), 16_000)], database, ToneEncoder())
    assert database.table().count() == 4

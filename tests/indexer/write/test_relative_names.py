"""A database and its recordings that travel together."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import clara_search
from clara_search.errors import DatabaseError
from clara_search.store.database import Database
from clara_search.store.verify import verify
from indexer.ledger.failures import failed_sources, failures, stored_ledger
from indexer.pipeline import index
from tests.helpers import ToneEncoder, write_tone


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with recordings, a shard, a manifest, texts and a file that cannot be read, and room for a database."""
    project = tmp_path / "project"
    write_tone(project / "rec" / "a.wav", 300, duration_s=12)
    write_tone(project / "rec" / "in" / "b.wav", 500)
    (project / "rec" / "broken.wav").write_text("no sound")
    (project / "rec" / "m.csv").write_text("path,text,start_s,end_s\na.wav,tone,0,2\n,words,,\n")
    (project / "rec" / "t.txt").write_text("a line\n")
    with tarfile.open(project / "rec" / "s.tar", "w") as archive:
        archive.add(write_tone(tmp_path / "c.wav", 700), "c.wav")
    for path in project.rglob("*.*"):
        os.utime(path, (1.6e9, 1.6e9))
    return project


def run(project: Path, encoder: ToneEncoder, **options: Any) -> Any:
    folder = project / "rec"
    sources = [folder / "m.csv", folder, folder / "t.txt", folder / "s.tar"]
    return index(sources, project / "db", encoder, **options)


def test_a_database_and_its_recordings_can_be_moved_together(tmp_path: Path, project: Path) -> None:
    first = run(project, ToneEncoder(), relative_to=project / "rec")
    assert (first.indexed, first.failed) == (6, 1)
    stored = Database(project / "db").table().scan(["uri"])["uri"].to_pylist()
    assert all(uri.startswith(("./", "tar://c.wav::./s.tar")) for uri in stored)
    ledger = stored_ledger(Database(project / "db"), "corpus")
    assert ledger is not None
    names = ledger.scan(["key", "uri", "source"]).to_pylist()
    assert not any(str(tmp_path) in value for row in names for value in row.values())

    moved = project.rename(tmp_path / "elsewhere")
    again = ToneEncoder()
    second = run(moved, again, prune=True)
    assert (second.indexed, second.unchanged, second.failed, second.removed) == (0, 6, 1, 0)
    assert (again.clips_encoded, again.texts_encoded) == (0, 0)
    database = Database(moved / "db")
    assert failures(database)[0]["uri"] == str(moved / "rec" / "broken.wav")
    assert [source.name for source in failed_sources(database)] == [str(moved / "rec")]
    hits = clara_search.open(moved / "db", encoder=ToneEncoder()).search(audio=moved / "rec" / "in" / "b.wav", k=10)
    assert hits[0].uri == str(moved / "rec" / "in" / "b.wav")
    assert {hit.uri for hit in hits if hit.uri.startswith("tar:")} == {f"tar://c.wav::{moved / 'rec' / 's.tar'}"}
    sample = next(found for found in verify(database, "corpus", encoder=ToneEncoder()) if found.check == "sample")
    assert sample.ok
    assert sample.detail == "7 of 7 rows embedded again: equal"

    (moved / "rec" / "in" / "b.wav").rename(moved / "rec" / "in" / "d.wav")
    (moved / "rec" / "a.wav").unlink()
    third = run(moved, again, prune=True)
    assert again.clips_encoded == 0
    assert database.table().count("uri = './in/d.wav'") == 1
    assert database.table().count("uri = './in/b.wav'") == 0
    assert third.failed == 2  # the manifest still lists a.wav


def test_names_that_lead_out_of_the_folder_are_not_opened(project: Path) -> None:
    run(project, ToneEncoder(), relative_to=project / "rec")
    outside = write_tone(project / "secret.wav", 900)
    database = Database(project / "db")
    table = database.table()
    row = table.scan(table.schema.names, "uri = './in/b.wav'")
    for column, value in (("uri", "./../secret.wav"), ("id", "0" * 32)):
        row = row.set_column(row.schema.get_field_index(column), column, pa.array([value]))
    table.upsert(row)
    hits = clara_search.open(database.path, encoder=ToneEncoder()).search(audio=outside, k=10)
    assert "./../secret.wav" in {hit.uri for hit in hits}
    assert str(outside) not in {hit.uri for hit in hits}
    sample = next(found for found in verify(database, "corpus", encoder=ToneEncoder()) if found.check == "sample")
    assert "1 with URIs that a table may not name" in sample.detail


def test_a_table_keeps_what_its_names_are_relative_to(project: Path) -> None:
    run(project, ToneEncoder())
    with pytest.raises(DatabaseError, match=r"has names as they are, not relative to '\.\./rec'"):
        run(project, ToneEncoder(), relative_to=project / "rec")
    run(project, ToneEncoder(), relative_to=project / "rec", table="other")
    with pytest.raises(DatabaseError, match=r"has names relative to '\.\./rec', not relative to '\.\.'"):
        run(project, ToneEncoder(), relative_to=project, table="other")
    assert run(project, ToneEncoder(), table="other").unchanged == 6

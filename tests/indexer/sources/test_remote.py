"""Databases in an object store: what a folder can do, they can; and those that cannot be reached say so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import clara_search
from clara_search.commands.main import main
from clara_search.errors import DatabaseError
from clara_search.retrieval.ann import index as ann
from clara_search.store.database import Database
from clara_search.store.verify import verify
from indexer.ledger.failures import failures
from indexer.pipeline import index
from tests.clara_search.hostile.files import with_base_path
from tests.helpers import ToneEncoder, write_tone
from tests.stores import FORBIDDEN, Proxy

PLACE = "s3://sounds/databases/one"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    for number in range(12):
        write_tone(tmp_path / "in" / f"{number:02}.wav", 200 + 100 * number, duration_s=0.5)
    (tmp_path / "in" / "bad.wav").write_text("no sound")
    return tmp_path / "in"


@pytest.mark.slow
def test_a_database_in_an_object_store_holds_what_one_in_a_folder_does(
    bucket: Any, recordings: Path, tmp_path: Path
) -> None:
    encoder = ToneEncoder()
    index([recordings], tmp_path / "here", encoder)
    first = index([recordings], PLACE, encoder)
    assert (first.indexed, first.failed, first.rows) == (12, 1, 12)
    second = index([recordings], PLACE, encoder)
    assert (second.indexed, second.unchanged) == (0, 12)
    columns = ["id", "uri", "start_s", "end_s", "content_hash", "vector"]
    here, there = (
        Database(location).table().scan(columns).sort_by("id").to_pylist() for location in (tmp_path / "here", PLACE)
    )
    np.testing.assert_allclose([row.pop("vector") for row in there], [row.pop("vector") for row in here], atol=1e-6)
    assert there == here
    assert [Path(one["uri"]).name for one in failures(Database(PLACE))] == ["bad.wav"]
    (recordings / "03.wav").unlink()
    assert index([recordings], PLACE, encoder, prune=True).removed == 1
    assert all(finding.ok for finding in verify(Database(PLACE), "corpus", encoder=encoder))
    assert not [path for path in bucket.find("sounds") if "databases/one" not in path]


def test_what_this_machine_keeps_of_a_store_is_for_nobody_else(tmp_path: Path) -> None:
    kept = tmp_path / "cache" / "clara-search"
    kept.mkdir(parents=True)
    kept.chmod(0o755)  # as an earlier release made it
    Database(PLACE, create=True)
    assert kept.stat().st_mode & 0o777 == 0o700


def test_a_database_in_an_object_store_is_searched_also_with_an_ann_index(
    bucket: Any, recordings: Path, tmp_path: Path
) -> None:
    encoder = ToneEncoder()
    index([recordings], tmp_path / "here", encoder)
    index([recordings], PLACE, encoder)
    here = clara_search.open(tmp_path / "here", encoder=encoder).search(audio=recordings / "07.wav", k=5)
    exact = clara_search.open(PLACE, encoder=encoder).search(audio=recordings / "07.wav", k=5)
    assert [(hit.uri, hit.start_s) for hit in exact] == [(hit.uri, hit.start_s) for hit in here]
    ann.build(Database(PLACE).table())
    hits = clara_search.open(PLACE, encoder=encoder).search(audio=recordings / "07.wav", k=5)
    assert [hit.uri for hit in hits] == [hit.uri for hit in exact]
    assert not [path for path in bucket.find("sounds") if "_ann" in path]


@pytest.mark.parametrize("table", ["corpus", "_ledger_corpus"])
def test_a_table_in_a_store_that_names_files_elsewhere_is_refused(bucket: Any, recordings: Path, table: str) -> None:
    index([recordings], PLACE, ToneEncoder())
    Database(PLACE).table()
    # Not the newest version: `db restore` and others open each of them.
    first = min(bucket.ls(f"{PLACE}/{table}.lance/_versions"), key=lambda path: bucket.modified(path))
    bucket.pipe(first, with_base_path(bucket.cat(first), "file:///etc"))
    with pytest.raises(
        DatabaseError, match=rf"{table}.lance/_versions/\d+\.manifest: lets the table read files outside"
    ):
        index([recordings], PLACE, ToneEncoder())
    if table == "corpus":
        result = CliRunner().invoke(main, ["search", "a", "--db", PLACE])
        assert result.exit_code == 1
        assert "outside of its folder" in result.output


def test_versions_in_a_store_are_checked_anew_when_they_change(bucket: Any, recordings: Path) -> None:
    index([recordings], PLACE, ToneEncoder())
    Database(PLACE).table()
    (newest, *_) = sorted(bucket.ls(f"{PLACE}/corpus.lance/_versions"))
    content = bucket.cat(newest)
    changed = with_base_path(content, "s3://others")
    bucket.pipe(newest, changed)
    with pytest.raises(DatabaseError, match="outside of its folder"):
        Database(PLACE).table()
    bucket.pipe(newest, content)
    assert Database(PLACE).table().count() == 12


def test_versions_whose_store_does_not_answer_are_not_opened(proxy: Proxy, bucket: Any, recordings: Path) -> None:
    index([recordings], PLACE, ToneEncoder())
    database = Database(PLACE)
    proxy.rule = lambda method, path: FORBIDDEN if ".manifest" in path else None
    with pytest.raises(DatabaseError, match=r"\.manifest: cannot be used"):
        database.table()
    proxy.rule = lambda method, path: FORBIDDEN if "_versions" in path else None
    with pytest.raises(DatabaseError, match=r"corpus\.lance: cannot be used"):
        database.table()


@pytest.mark.slow
def test_a_database_that_is_not_there_or_cannot_be_reached_is_named(bucket: Any) -> None:
    with pytest.raises(DatabaseError, match="s3://sounds/none: no database here"):
        Database("s3://sounds/none/")
    with pytest.raises(DatabaseError, match="s3://nobody-has-this/db: cannot be reached"):
        Database("s3://nobody-has-this/db")


@pytest.mark.parametrize("location", ["memory://x", "s3:/x", "s3://", "file:///x", "http://x/y", "nonsense://x/y"])
def test_a_location_that_cannot_hold_a_database_is_refused(location: str) -> None:
    result = CliRunner().invoke(main, ["db", "info", "--db", location])
    assert result.exit_code == 1
    assert f"{location}: cannot hold a database" in result.output

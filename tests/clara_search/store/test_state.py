"""What was read of a table is known to be its newest version, or not to be, whatever changed it."""

from __future__ import annotations

import pytest

from clara_search.store.database import Database
from tests.tables import rows, table_of, unit_vectors


def upsert(database):
    database.table().upsert(rows(unit_vectors(1, seed=1), ids=["new"]))


def delete(database):
    database.table().delete_ids(["000001"])


def compact(database):
    table = database.table()
    table.upsert(rows(unit_vectors(2, seed=2)))
    table.compact(retain_days=0)


def restore(database):
    database.table()._lance.restore(2)


def make_anew(database):
    database.drop_table("corpus")
    table_of(database, unit_vectors(3, seed=3))  # the same number of versions


def delete_the_version_between(database):
    """As a clean-up does that keeps an old version."""
    upsert(database)
    delete(database)
    newest_first = sorted((database.path / "corpus.lance" / "_versions").glob("*.manifest"))
    newest_first[1].unlink()


def add_a_column(database):
    database.table().upsert(rows(unit_vectors(1), loudness=[1.0]))


CHANGES = [upsert, delete, compact, restore, make_anew, delete_the_version_between, add_a_column]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_by_anybody_is_seen(database, change):
    table = table_of(database, unit_vectors(3))
    before = table.state
    assert len(before) > 1  # read from the files
    assert table.is_at(before)
    change(Database(database.path))
    assert not table.is_at(before)
    assert table.state != before
    assert table.is_at(table.state)


def test_without_its_files_the_table_is_asked(database, monkeypatch):
    table = table_of(database, unit_vectors(3))
    monkeypatch.setattr(database, "is_remote", True)
    before = table.state
    assert (before, table.is_at(before)) == ((table.version,), True)
    upsert(Database(database.path))
    assert not table.is_at(before)

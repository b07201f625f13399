"""`clara-search ann`."""

from __future__ import annotations

from clara_search.retrieval.ann import index as ann
from clara_search.retrieval.ann import tuning
from tests.clara_search.commands.runner import json_lines, run
from tests.tables import rows, table_of, unit_vectors


def test_ann_is_built_shown_and_dropped(database):
    table = table_of(database, unit_vectors(200))
    (built,) = json_lines(run("ann", "build", "--db", database.path, "--backend", "ivf", "--json"))
    assert built["backend"] == "ivf"
    assert built["recall"] >= built["target_recall"] == 0.95
    table.upsert(rows(unit_vectors(3, seed=1), ids=["x", "y", "z"]))
    (status,) = json_lines(run("ann", "status", "--db", database.path, "--json"))
    assert (status["num_indexed_rows"], status["num_unindexed_rows"], status["num_stale_rows"]) == (200, 3, 0)
    assert "3 rows, searched exactly" in run("ann", "status", "--db", database.path).stdout
    (described,) = json_lines(run("db", "info", "--db", database.path, "--json"))
    assert described["ann"] is True
    assert "Dropped" in run("ann", "drop", "--db", database.path).stdout
    assert "has no ANN index" in run("ann", "drop", "--db", database.path).stdout
    assert ann.status(table) is None


def test_a_flat_index_finds_all_and_has_nothing_to_warn_of(corpus):
    built = run("ann", "build", "--db", corpus.path, "--backend", "flat", "--target-recall", 1.0)
    assert "1.000" in built.stdout
    assert built.stderr == ""


def test_an_index_that_misses_its_target_says_so(corpus, monkeypatch):
    monkeypatch.setattr(tuning, "tune", lambda *_: (1, 0.5))
    assert "below the target of 0.9" in run("ann", "build", "--db", corpus.path, "--target-recall", 0.9).stderr

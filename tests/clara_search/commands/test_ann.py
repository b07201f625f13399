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
    tuned = built["tuning"]["audio"]
    assert tuned["interval"][0] <= tuned["recall"] <= tuned["interval"][1]
    assert [point["effort"] for point in tuned["curve"]] == sorted({point["effort"] for point in tuned["curve"]})
    assert (built["k"], built["target_recall"]) == (10, 0.95)
    table.upsert(rows(unit_vectors(3, seed=1), ids=["x", "y", "z"]))
    (status,) = json_lines(run("ann", "status", "--db", database.path, "--json"))
    assert (status["num_indexed_rows"], status["num_unindexed_rows"], status["num_stale_rows"]) == (200, 3, 0)
    shown = run("ann", "status", "--db", database.path).stdout
    assert "3 rows, searched exactly" in shown
    assert f"{tuned['recall']:.3f} [" in shown
    assert f"at effort {tuned['effort']}, over 100 rows of recordings" in shown
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
    monkeypatch.setattr(tuning, "tune", lambda *_: tuning.Tuning(1, 0.5, (0.4, 0.6), 9, "rows of recordings", ()))
    stderr = run("ann", "build", "--db", corpus.path, "--target-recall", 0.9).stderr
    assert "recall@10 of audio queries is 0.500, below the target of 0.9" in stderr


def test_searches_by_texts_are_tuned_with_the_texts_of_a_file(corpus, tmp_path):
    file = tmp_path / "queries.txt"
    file.write_text("a dog\n\n a door \na dog\n")
    (built,) = json_lines(run("ann", "build", "--db", corpus.path, "--queries", file, "-k", 2, "--json"))
    assert (built["k"], built["tuning"]["text"]["source"]) == (2, "given texts")
    assert (
        "no-such.txt: cannot be read (No such file"
        in run("ann", "build", "--db", corpus.path, "--queries", "no-such.txt", code=2).stderr
    )
    file.write_text("\n")
    assert "no texts to tune with" in run("ann", "build", "--db", corpus.path, "--queries", file, code=1).stderr

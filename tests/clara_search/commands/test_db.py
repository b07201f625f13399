"""`clara-search db`."""

from __future__ import annotations

from clara_search.store.database import Database
from tests.clara_search.commands.runner import json_lines, run


def test_db_info_tells_rows_encoder_windows_and_failures(corpus, recordings):
    (described,) = json_lines(run("db", "info", "--db", corpus.path, "--json"))
    assert described["table"] == "corpus"
    assert (described["rows"], described["audio_rows"], described["text_rows"]) == (5, 3, 2)
    assert described["encoder"] == "tone"
    assert described["failures"] == 1
    assert "tone" in run("db", "info", "--db", corpus.path).stdout
    (failure,) = json_lines(run("db", "info", "--db", corpus.path, "--failures", "--json"))
    assert failure["uri"] == str(recordings / "broken.wav")
    assert failure["reason"]
    assert "broken.wav" in run("db", "info", "--db", corpus.path, "--failures").stdout


def test_db_info_of_a_database_without_tables(tmp_path):
    Database(tmp_path / "empty", create=True)
    result = run("db", "info", "--db", tmp_path / "empty")
    assert result.stdout == ""
    assert "no tables" in result.stderr

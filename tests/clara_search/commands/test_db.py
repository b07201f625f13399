"""`clara-search db`."""

from __future__ import annotations

from click.testing import CliRunner

from clara_search.commands.main import main
from clara_search.store.database import Database
from tests.clara_search.commands.runner import assert_one_line_error, json_lines, run


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


def test_rows_are_deleted_when_they_were_counted_and_confirmed(corpus):
    arguments = ("db", "delete", "--db", corpus.location, "--where", "kind = 'text'")
    expected = {"rows": 2, "items": 2, "remaining": 3}
    assert json_lines(run(*arguments, "--dry-run", "--json")) == [expected]
    assert corpus.table().count() == 5
    refused = CliRunner().invoke(main, list(arguments), input="n\n")
    assert (refused.exit_code, corpus.table().count()) == (1, 5)
    assert "Delete 2 rows of 2 recordings and texts of table 'corpus'? 3 rows stay." in refused.stderr
    assert json_lines(run(*arguments, "--yes", "--json")) == [expected]
    assert corpus.table().count() == 3
    assert "0 rows of 0 recordings and texts deleted" in run(*arguments).stdout
    assert_one_line_error(run("db", "delete", "--db", corpus.location, "--where", "kind =", "--yes", code=1), "kind =")


def test_recordings_that_were_moved_are_named_anew(corpus, recordings):
    arguments = ("db", "relocate", recordings, "/new/place", "--db", corpus.location)
    assert "would be relocated" in run(*arguments, "--dry-run").stdout
    assert "3 rows, 4 recordings and texts relocated" in run(*arguments).stdout
    assert corpus.table().count("starts_with(uri, '/new/place/')") == 3
    assert_one_line_error(run(*arguments, code=1), "nothing in table 'corpus' has a name below it")
    assert_one_line_error(run("db", "relocate", "/new", "/new/x", "--db", corpus.location, code=1), "is in /new")

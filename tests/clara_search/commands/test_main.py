"""All commands: wrong usage, one line for every error, help, and `--device`."""

from __future__ import annotations

from dataclasses import replace

import click
import pytest

from clara_search.commands.main import Commands
from clara_search.models.recorded import RecordedModel
from tests.clara_search.commands.runner import assert_one_line_error, run
from tests.tables import INFO, table_of, unit_vectors


@pytest.mark.parametrize(
    "arguments",
    [
        ["search", "--db", "x"],
        ["search", "--minus", "a", "--db", "x"],
        ["search", "a"],
        ["search", "a", "--db", "x", "-k", "0"],
        ["search", "a", "--db", "x", "--modality", "video"],
        ["classify", "--labels", "a,b"],
        ["classify", "a.wav", "--db", "x", "--labels", "a,b"],
        ["classify", "a.wav"],
        ["classify", "a.wav", "--labels", "a", "--where", "b"],
        ["classify", "a.wav", "--labels", "a", "--hop", "0"],
        ["ann", "build", "--db", "x", "--target-recall", "2"],
        ["nothing"],
    ],
)
def test_wrong_usage_ends_with_2(arguments):
    assert "Usage:" in run(*arguments, code=2).stderr


def test_every_error_is_one_line_and_ends_with_1(tmp_path, corpus):
    nowhere = tmp_path / "nowhere"
    assert_one_line_error(run("search", "dog", "--db", nowhere, code=1), str(nowhere))
    assert not nowhere.exists()
    db = ("--db", corpus.path)
    assert_one_line_error(run("search", "", *db, code=1), "empty")
    assert_one_line_error(run("search", "   ", *db, code=1), "empty")
    assert_one_line_error(run("search", "dog", *db, "--table", "sfx", code=1), "no table 'sfx'", "corpus")
    assert_one_line_error(run("search", "dog", *db, "--model", "other", code=1), "built by tone")
    assert_one_line_error(run("search", "dog", *db, "--model", "clara-huge", code=1), "clara-huge")
    assert_one_line_error(run("search", "dog", *db, "--where", "loudness > 3", code=1), "loudness")
    assert_one_line_error(run("search", "--audio", tmp_path / "no.wav", *db, code=1), "no.wav")
    assert_one_line_error(run("classify", *db, "--labels", "a,a", code=1), "twice")
    assert_one_line_error(run("classify", *db, "--labels", "a,,b", code=1), "empty")
    assert_one_line_error(run("classify", *db, "--labels", "a", "--template", "b", code=1), "{}")
    assert_one_line_error(run("ann", "status", *db, code=1), "ann build")
    assert_one_line_error(run("db", "info", "--db", nowhere, code=1), str(nowhere))
    assert_one_line_error(run("models", "show", "clara-huge", code=1), "clara-huge")


def test_arguments_that_an_error_names_are_options_at_the_command_line(database):
    table_of(database, unit_vectors(2), info=replace(INFO, model=RecordedModel("gone", "0")))
    assert_one_line_error(
        run("search", "rain", "--db", database.path, code=1), "model 'gone', as it is recorded", "as --model to"
    )


def every_command():
    for name in Commands.homes:
        command = Commands("all").get_command(None, name)
        yield from command.commands.values() if isinstance(command, click.Group) else [command]


def test_a_damaged_table_is_one_line(corpus):
    for path in corpus.path.glob("corpus.lance/data/*.lance"):
        path.write_bytes(path.read_bytes()[:100])
    assert_one_line_error(run("search", "rain", "--db", corpus.path, code=1), "damaged")


def test_examples_in_help_keep_their_lines():
    for command in ("search", "classify", "index"):
        text = run(command, "--help").stdout
        assert "\\b" not in text
        lines = [line for line in text.splitlines() if line.strip().startswith(f"clara-search {command} ")]
        assert len(lines) == text.count(f"clara-search {command} ") >= 2


def test_every_command_that_loads_a_model_takes_a_device(corpus, recordings, models):
    db = ("--db", corpus.path)
    calls = [
        ("search", "rain", *db),
        ("classify", *db, "--labels", "a,b"),
        ("classify", recordings / "low.wav", "--labels", "a,b"),
        ("db", "verify", *db),
        ("index", recordings, *db),
    ]
    for call in calls:
        models.clear()
        run(*call, "--device", "cuda:1")
        assert models == ["cuda:1"], call
        models.clear()
        run(*call)
        assert models == [None], call

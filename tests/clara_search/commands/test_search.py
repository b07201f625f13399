"""`clara-search search`: JSON lines, and tables that fit the terminal."""

from __future__ import annotations

from tests.clara_search.commands.runner import json_lines, run
from tests.tables import table_of, unit_vectors

HIT_KEYS = ["rank", "id", "score", "kind", "uri", "start_s", "end_s", "text", "language"]


def test_search_prints_hits_as_json_lines(corpus):
    hits = json_lines(run("search", "rain on a roof", "--db", corpus.path, "-k", 2, "--json"))
    assert [hit["rank"] for hit in hits] == [1, 2]
    assert set(HIT_KEYS) <= set(hits[0])
    assert hits[0]["text"] == "rain on a roof"
    assert "vector" not in hits[0]


def test_search_by_sound_finds_the_sound(corpus, recordings):
    path = recordings / "middle.flac"
    hits = json_lines(run("search", "--audio", path, "--db", corpus.path, "--modality", "audio", "--json"))
    assert hits[0]["uri"] == str(path)
    assert len(hits) == 3


def test_search_filters(corpus, recordings):
    where = "uri LIKE '%low.wav'"
    hits = json_lines(run("search", "a dog", "--db", corpus.path, "--where", where, "--json"))
    assert [hit["uri"] for hit in hits] == [str(recordings / "low.wav")]


def test_the_table_for_people_fits_80_columns(database, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    ids = ["a" * 90, "x [bold]b"]
    table_of(database, unit_vectors(2), ids=ids, text="many words " * 30 + "\nand a second line [red]")
    output = run("search", "anything", "--db", database.path).stdout
    lines = output.splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= 80
    assert "0:00.0-0:01.0" in output
    assert "x [bold]b.wav" in output


def test_search_with_nothing_found_says_so(database):
    table_of(database, unit_vectors(2))
    result = run("search", "anything", "--db", database.path, "--where", "id = 'none'")
    assert result.stdout == ""
    assert "No rows match" in result.stderr

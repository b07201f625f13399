"""`clara-search search`: JSON lines, and tables that fit the terminal."""

from __future__ import annotations

import datetime
import json

import pyarrow as pa
import pytest

from tests.clara_search.commands.runner import json_lines, run
from tests.tables import rows, table_of, unit_vectors

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


def test_several_texts_come_from_stdin_or_a_file(tmp_path, corpus):
    texts = ["rain on a roof", "a dog barks"]
    path = tmp_path / "queries.txt"
    path.write_text("\ufeff" + "\n\n".join(texts) + "\n", encoding="utf-8")
    alone = [json_lines(run("search", text, "--db", corpus.path, "-k", 2, "--json")) for text in texts]
    expected = [{"query": text, **hit} for text, hits in zip(texts, alone, strict=True) for hit in hits]
    for source, given in [(f"@{path}", None), ("-", path.read_bytes())]:
        assert json_lines(run("search", source, "--db", corpus.path, "-k", 2, "--json", stdin=given)) == expected
    shown = run("search", f"@{path}", "--db", corpus.path).stdout
    assert all(text in shown for text in texts)
    missing = run("search", "@nothing.txt", "--db", corpus.path, code=2)
    assert "nothing.txt: cannot be read (No such file or directory); TEXT that starts with @ names a" in missing.stderr
    for endless in ("/dev/zero", "/dev/stdin", "/"):
        assert "cannot be read" in run("search", f"@{endless}", "--db", corpus.path, code=2).stderr


def test_search_by_a_row_with_texts_added_and_taken_away(corpus):
    first = json_lines(run("search", "rain on a roof", "--db", corpus.path, "-k", 1, "--json"))[0]
    like = json_lines(run("search", "--id", first["id"], "--db", corpus.path, "--json"))
    assert first["id"] not in [hit["id"] for hit in like]
    assert len(like) == 4
    near = json_lines(
        run("search", "--plus", "rain on a roof:2", "--minus", "a dog barks:5", "--db", corpus.path, "--json")
    )
    assert [near[0]["text"], near[-1]["text"]] == ["rain on a roof", "a dog barks"]
    rest = json_lines(run("search", "rain on a roof", "--db", corpus.path, "-k", 1, "--offset", 1, "--json"))
    assert rest[0]["rank"] == 2
    assert "Give TEXT" in run("search", "--minus", "rain", "--db", corpus.path, code=2).stderr


def test_search_exports_files_and_says_what_is_left_out(tmp_path, corpus):
    result = run("search", "a dog", "--db", corpus.path, "--export", "audacity", tmp_path / "labels", "--json")
    assert len(json_lines(result)) == 5
    assert sorted(path.name for path in (tmp_path / "labels").iterdir()) == ["high.txt", "low.txt", "middle.txt"]
    assert result.stderr.count("left out: ") == 2
    assert f"3 files in {tmp_path / 'labels'}" in result.stderr


def test_json_is_json_whatever_a_column_holds(database):
    table = table_of(database, unit_vectors(2))
    table.upsert(
        rows(
            unit_vectors(2),
            loudness=[float("nan"), float("-inf")],
            tags=pa.array([["x", None], None]),
            day=[datetime.date(2024, 1, 31), None],
            blob=[b"\x00\xff", None],
            place=[{"room": float("inf")}, None],
        )
    )
    for line in run("search", "rain", "--db", database.path, "--json").stdout.splitlines():
        hit = json.loads(line, parse_constant=pytest.fail)
        assert hit["loudness"] is None
        if hit["id"] == "000000":
            assert (hit["tags"], hit["day"], hit["blob"]) == (["x", None], "2024-01-31", "AP8=")
            assert hit["place"] == {"room": None}

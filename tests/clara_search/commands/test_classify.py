"""`clara-search classify`: files and databases, labels, templates, calibration and thresholds."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest

from clara_search.audio.decode import load_audio
from clara_search.commands.classify import UNSURE, progress_bar
from clara_search.store.schema import TableInfo
from indexer.pipeline import index as index_corpus
from tests.clara_search.commands.runner import assert_one_line_error, json_lines, run
from tests.helpers import write_tone


@pytest.fixture
def labelled(tmp_path, recordings):
    """A manifest of the three recordings, each under the label that its nearest prompt is not sure of."""
    manifest = recordings / "labelled.csv"
    rows = [
        "path,label,split",
        "low.wav,dog,valid",
        "middle.flac,rain,valid",
        "high/high.ogg,rain,test",
        "no.wav,dog,valid",
    ]
    manifest.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return manifest


def test_classify_files_names_each_window_and_steps_over_bad_files(tmp_path, recordings):
    long = write_tone(tmp_path / "long.wav", duration_s=2.0)
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"")
    arguments = ["--labels", "dog, rain", "--template", "a {}", "--window", 1, "--hop", 0.5, "--json"]
    result = run("classify", bad, long, recordings / "low.wav", *arguments, code=1)
    items = json_lines(result)
    assert [(item["start_s"], item["end_s"]) for item in items] == [(0.0, 1.0), (0.5, 1.5), (1.0, 2.0), (0.0, 1.0)]
    assert set(items[0]) == {"uri", "start_s", "end_s", "label", "score", "scores"}
    assert items[0]["uri"] == str(long)
    assert list(items[0]["scores"]) == ["dog", "rain"]
    assert items[0]["score"] == max(items[0]["scores"].values()) == items[0]["scores"][items[0]["label"]]
    assert "bad.wav" in result.stderr


def test_classify_gives_probabilities_where_they_are_calibrated_and_abstains(recordings, labelled):
    arguments = ["classify", recordings / "low.wav", "--labels", "dog,rain", "--json"]
    (plain,) = json_lines(run(*arguments))
    result = run(*arguments, "--calibrate", labelled)
    (item,) = json_lines(result)
    assert "Calibrated on 2 recordings" in result.stderr  # those of the split valid that can be read
    assert sum(item["scores"].values()) == pytest.approx(1.0, abs=1e-5)
    assert max(item["scores"], key=item["scores"].get) == max(plain["scores"], key=plain["scores"].get)
    (unsure,) = json_lines(run(*arguments, "--calibrate", labelled, "--min-probability", 1.0))
    assert unsure["label"] is None
    assert unsure["scores"] == item["scores"]
    table = run(*arguments[:-1], "--calibrate", labelled, "--min-probability", 1.0).stdout
    assert "(unsure)" in table


def test_classify_says_what_it_cannot_calibrate_on(recordings, labelled):
    arguments = ["classify", recordings / "low.wav", "--labels", "cat,horse", "--calibrate", labelled]
    assert_one_line_error(run(*arguments, code=1), "none of cat, horse", "dog, rain")
    assert_one_line_error(run(*arguments, "--label-column", "mood", code=1), "no column 'mood'", "label, path, split")


def test_several_templates_are_averaged_as_vectors(recordings, encoder):
    templates = ["--template", "a {}", "--template", "the sound of a {}"]
    (item,) = json_lines(run("classify", recordings / "low.wav", "--labels", "dog,rain", *templates, "--json"))
    sound = encoder.encode_audio([load_audio(recordings / "low.wav", encoder.sample_rate)])[0]
    for label, cosine in item["scores"].items():
        mean = encoder.encode_text([f"a {label}", f"the sound of a {label}"]).mean(axis=0)
        assert cosine == pytest.approx(float(mean @ sound / np.linalg.norm(mean)), abs=1e-5)


def test_classify_refuses_options_that_do_not_go_together(recordings):
    file = recordings / "low.wav"
    for arguments, part in (
        (["--labels", "a,b", "--min-probability", "0.5"], "needs probabilities"),
        ([], "either --labels or --head"),
        (["--labels", "a,b", "--head", "x"], "either --labels or --head"),
        (["--labels", "a,b", "--knn", "label"], "either --labels or --head or --knn"),
        (["--knn", "label"], "needs the labelled rows"),
        (["--labels", "a,b", "-k", "3"], "are for --knn"),
        (["--labels", "a,b", "--multi-label"], "probabilities that are independent"),
        (["--labels", "a,b", "--multi-label", "--calibrate", "x.csv"], "probabilities that are independent"),
        (["--labels", "a,b", "--write", "guess"], "--write needs --db"),
        (["--labels", "a,b", "--dry-run"], "--dry-run is for --write"),
        (["--head", "x", "--template", "a {}"], "are for --labels"),
        (["--labels", "a,b", "--text", "one", "--text", "two"], "2 for 1"),
    ):
        assert part in run("classify", file, *arguments, code=2).stderr
    assert_one_line_error(run("classify", file, "--head", recordings, code=1), "not a head folder")


def test_classify_a_database_with_labels_from_a_file(tmp_path, corpus):
    labels = tmp_path / "labels.txt"
    labels.write_text("dog, small\n\nrain\n", encoding="utf-8")
    items = json_lines(run("classify", "--db", corpus.path, "--labels", labels, "--json"))
    assert len(items) == 3
    assert set(items[0]["scores"]) == {"dog, small", "rain"}
    table = run("classify", "--db", corpus.path, "--labels", labels).stdout
    assert len(table.splitlines()) == 4


def test_labels_may_be_many_and_a_file_of_them_must_be_there_and_readable(corpus, recordings, tmp_path):
    many = ",".join(f"label number {number}" for number in range(200))
    assert run("classify", recordings / "low.wav", "--labels", many).stdout
    (tmp_path / "labels.txt").write_bytes(b"dog\xff\n")
    for name, part in ((tmp_path / "labels.txt", "not UTF-8"), ("none.txt", "no such file")):
        assert_one_line_error(run("classify", recordings / "low.wav", "--labels", name, code=1), part)


@pytest.fixture
def labelled_corpus(tmp_path, database, encoder):
    """A table of 40 windows: low tones with the label "low", high ones with "high", and some of each without."""
    rows = ["path,label"]
    for number in range(40):
        is_low = number % 2 == 0
        write_tone(tmp_path / f"{number}.wav", (210 if is_low else 4000) + number)
        rows.append(f"{number}.wav,{'' if number >= 30 else 'low' if is_low else 'high'}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    index_corpus(tmp_path / "manifest.csv", database, encoder)
    return database


def name_of(item):
    return "low" if int(Path(item["uri"]).stem) % 2 == 0 else "high"


def test_every_row_has_a_label_with_labels_and_with_labelled_rows(labelled_corpus, tmp_path):
    db = labelled_corpus.path
    items = json_lines(run("classify", "--db", db, "--labels", "dot,dash", "--json"))
    assert len(items) == 40
    assert any(item["score"] < 0 for item in items)
    assert all(item["label"] == max(item["scores"], key=item["scores"].get) for item in items)
    assert UNSURE not in run("classify", "--db", db, "--labels", "dot,dash").stdout
    for where in ([], ["--where", "label IS NULL"]):
        nearest = json_lines(run("classify", "--db", db, "--knn", "label", "-k", 5, "--json", *where))
        assert [item["label"] for item in nearest] == [name_of(item) for item in nearest]
        assert len(nearest) == (10 if where else 40)
    (file,) = json_lines(run("classify", tmp_path / "39.wav", "--knn", "label", "--knn-db", db, "--json"))
    assert (file["label"], list(file["scores"])) == ("high", ["high", "low"])
    assert_one_line_error(run("classify", "--db", db, "--knn", "mood", code=1), "no column 'mood'", "label")
    assert_one_line_error(run("classify", "--db", db, "--knn", "start_s", code=1), "'start_s' holds double")


def test_labelled_rows_of_the_table_need_no_model(labelled_corpus, models):
    models.clear()
    run("classify", "--db", labelled_corpus.path, "--knn", "label", "--write", "guess")
    assert models == []


def test_write_puts_labels_and_probabilities_into_the_table(labelled_corpus):
    db, arguments = labelled_corpus.path, ["--knn", "label", "-k", 5, "--write", "guess"]
    dry = run("classify", "--db", db, *arguments, "--dry-run").stdout
    assert dry == "40 rows of table 'corpus' would be labelled in 'guess': high 20, low 20\n"
    assert "guess" not in labelled_corpus.table().schema.names
    result = json_lines(run("classify", "--db", db, *arguments, "--json"))
    counts = {"column": "guess", "rows": 40, "labels": {"high": 20, "low": 20}, "unlabelled": 0, "changed": 0}
    assert result == [counts]
    hits = json_lines(run("search", "a tone", "--db", db, "--where", "guess = 'low'", "-k", 40, "--json"))
    assert {name_of(hit) for hit in hits} == {"low"}
    assert all(hit["guess_probability"] == pytest.approx(1.0, abs=1e-6) for hit in hits)
    for name in ("label", "score", "_x", "a.b", "Text"):
        assert_one_line_error(run("classify", "--db", db, "--knn", "label", "--write", name, code=1), repr(name))


def test_probabilities_of_a_match_make_thresholds_and_several_labels_possible(labelled_corpus):
    arguments = ["classify", "--db", labelled_corpus.path, "--labels", "dot,dash"]
    plain = json_lines(run(*arguments, "--json"))
    none, all_ = (json_lines(run(*arguments, "--min-probability", p, "--json")) for p in (1, 0))
    assert [item["label"] for item in all_] == [item["label"] for item in plain]
    assert [item["scores"] for item in all_] == [item["scores"] for item in plain]
    assert all(0 < item["probability"] < 1 for item in all_)
    assert {item["label"] for item in none} == {None}
    several = json_lines(run(*arguments, "--multi-label", "--min-probability", 0, "--json"))
    assert {len(item["labels"]) for item in several} == {2}
    assert all(item["labels"][0] == max(item["scores"], key=item["scores"].get) for item in several)
    assert "match" in run(*arguments, "--min-probability", 0).stdout.splitlines()[0]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_a_bar_unless_lines_for_programs_go_there_too(monkeypatch):
    shown = []
    for as_json, is_terminal in ((False, True), (True, True), (True, False), (False, False)):
        err = Terminal() if is_terminal or as_json else io.StringIO()
        monkeypatch.setattr(sys, "stderr", err)
        monkeypatch.setattr(sys, "stdout", Terminal() if is_terminal else io.StringIO())
        with progress_bar(4, "row", as_json) as update:
            update(4)
        shown.append("0/4" in err.getvalue())
    assert shown == [True, False, True, False]


def test_an_empty_table_has_no_classifications(database, encoder):
    database.create_table("corpus", TableInfo.of(encoder, 1.0, 0.5))
    assert run("classify", "--db", database.path, "--labels", "a,b", "--json").stdout == ""
    written = run("classify", "--db", database.path, "--labels", "a,b", "--write", "guess").stdout
    assert written == "0 rows of table 'corpus' labelled in 'guess': no label\n"
    assert_one_line_error(run("classify", "--db", database.path, "--knn", "text", code=1), "no audio row has a label")

"""The commands as a user types them: exit codes, JSON lines, tables that fit, one line for every error."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from clara_search.audio.decode import load_audio
from clara_search.commands.common import format_span, format_time, short_name
from clara_search.commands.main import main
from clara_search.errors import UnknownModel
from clara_search.models import registry
from clara_search.models import registry as catalog
from clara_search.retrieval import index as index_module
from clara_search.retrieval.ann import index as ann
from clara_search.retrieval.ann import tuning
from clara_search.store.database import Database
from indexer.pipeline import index as index_corpus
from tests.helpers import ToneEncoder, write_tone
from tests.tables import rows, table_of, unit_vectors

HIT_KEYS = ["rank", "id", "score", "kind", "uri", "start_s", "end_s", "text", "language"]


@pytest.fixture(autouse=True)
def models(monkeypatch):
    """Two models to load: the tone encoder by its name or by default, and another version of it."""

    def load(model=registry.DEFAULT_MODEL, device=None, precision="auto"):
        encoders = {"tone": ToneEncoder(), registry.DEFAULT_MODEL: ToneEncoder(), "other": ToneEncoder("2")}
        if model not in encoders:
            raise UnknownModel(f"no model {model!r}")
        return encoders[model]

    monkeypatch.setattr(registry, "load_encoder", load)
    monkeypatch.setattr(index_module, "load_encoder", load)


@pytest.fixture
def corpus(tmp_path, database, recordings, encoder):
    """A database of three tones, two texts, and a file that is no recording."""
    (recordings / "broken.wav").write_text("this is no sound")
    texts = tmp_path / "captions.txt"
    texts.write_text("a dog barks\nrain on a roof\n", encoding="utf-8")
    index_corpus([recordings, texts], database, encoder)
    return database


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def json_lines(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def assert_one_line_error(result, *parts):
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    for part in parts:
        assert part in line


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


@pytest.mark.parametrize(
    "arguments",
    [
        ["search", "--db", "x"],
        ["search", "a", "--audio", "b.wav", "--db", "x"],
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


def test_classify_files_names_each_window_and_steps_over_bad_files(tmp_path, recordings):
    long = write_tone(tmp_path / "long.wav", duration_s=2.0)
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"")
    arguments = ["--labels", "dog, rain", "--template", "a {}", "--window", 1, "--hop", 0.5, "--json"]
    result = run("classify", bad, long, recordings / "low.wav", *arguments, code=1)
    found = json_lines(result)
    assert [(one["start_s"], one["end_s"]) for one in found] == [(0.0, 1.0), (0.5, 1.5), (1.0, 2.0), (0.0, 1.0)]
    assert set(found[0]) == {"uri", "start_s", "end_s", "label", "score", "scores"}
    assert found[0]["uri"] == str(long)
    assert list(found[0]["scores"]) == ["dog", "rain"]
    assert found[0]["score"] == max(found[0]["scores"].values()) == found[0]["scores"][found[0]["label"]]
    assert "bad.wav" in result.stderr


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


def test_classify_gives_probabilities_where_they_are_calibrated_and_abstains(recordings, labelled):
    arguments = ["classify", recordings / "low.wav", "--labels", "dog,rain", "--json"]
    (plain,) = json_lines(run(*arguments))
    result = run(*arguments, "--calibrate", labelled)
    (found,) = json_lines(result)
    assert "Calibrated on 2 recordings" in result.stderr  # those of the split valid that can be read
    assert sum(found["scores"].values()) == pytest.approx(1.0, abs=1e-5)
    assert max(found["scores"], key=found["scores"].get) == max(plain["scores"], key=plain["scores"].get)
    (unsure,) = json_lines(run(*arguments, "--calibrate", labelled, "--min-probability", 1.0))
    assert unsure["label"] is None
    assert unsure["scores"] == found["scores"]
    table = run(*arguments[:-1], "--calibrate", labelled, "--min-probability", 1.0).stdout
    assert "(unsure)" in table


def test_classify_says_what_it_cannot_calibrate_on(recordings, labelled):
    arguments = ["classify", recordings / "low.wav", "--labels", "cat,horse", "--calibrate", labelled]
    assert_one_line_error(run(*arguments, code=1), "none of cat, horse", "dog, rain")
    assert_one_line_error(run(*arguments, "--label-column", "mood", code=1), "no column 'mood'", "label, path, split")


def test_several_templates_are_averaged_as_vectors(recordings, encoder):
    templates = ["--template", "a {}", "--template", "the sound of a {}"]
    (found,) = json_lines(run("classify", recordings / "low.wav", "--labels", "dog,rain", *templates, "--json"))
    sound = encoder.encode_audio([load_audio(recordings / "low.wav", encoder.sample_rate)])[0]
    for label, cosine in found["scores"].items():
        mean = encoder.encode_text([f"a {label}", f"the sound of a {label}"]).mean(axis=0)
        assert cosine == pytest.approx(float(mean @ sound / np.linalg.norm(mean)), abs=1e-5)


def test_classify_refuses_options_that_do_not_go_together(recordings):
    file = recordings / "low.wav"
    for arguments, part in (
        (["--labels", "a,b", "--min-probability", "0.5"], "needs probabilities"),
        ([], "either --labels or --head"),
        (["--labels", "a,b", "--head", "x"], "either --labels or --head"),
        (["--head", "x", "--template", "a {}"], "are for --labels"),
        (["--labels", "a,b", "--text", "one", "--text", "two"], "2 for 1"),
    ):
        assert part in run("classify", file, *arguments, code=2).stderr
    assert_one_line_error(run("classify", file, "--head", recordings, code=1), "not a head folder")


def test_classify_a_database_with_labels_from_a_file(tmp_path, corpus):
    labels = tmp_path / "labels.txt"
    labels.write_text("dog, small\n\nrain\n", encoding="utf-8")
    found = json_lines(run("classify", "--db", corpus.path, "--labels", labels, "--json"))
    assert len(found) == 3
    assert set(found[0]["scores"]) == {"dog, small", "rain"}
    table = run("classify", "--db", corpus.path, "--labels", labels).stdout
    assert len(table.splitlines()) == 4


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


def test_models_are_listed_and_shown(monkeypatch):
    facts = {"name": "clara-small", "dim": 64, "sample_rate": 16000, "parameters": 12, "licence": "x", "card": "# A\nB"}
    monkeypatch.setattr(catalog, "bundled_models", lambda: ["clara-small"])
    monkeypatch.setattr(catalog, "describe_model", lambda name: facts)
    assert json_lines(run("models", "list", "--json")) == [facts]
    assert "16000" in run("models", "list").stdout
    assert json_lines(run("models", "show", "clara-small", "--json")) == [facts]
    assert "card:\n# A\nB" in run("models", "show", "clara-small").stdout


def test_times_and_names_are_short():
    assert format_time(75.25) == "1:15.3"
    assert format_time(59.96) == "1:00.0"
    assert format_time(3600) == "60:00.0"
    assert format_span(0.0, 9.5) == "0:00.0-0:09.5"
    assert format_span(None, None) == ""
    assert short_name("https://host/a/b.wav?x=1") == "b.wav"
    assert short_name(None) == ""
    assert short_name("/x/what?#1.wav") == "what?#1.wav"
    assert short_name("/x/" + "a" * 40 + ".wav") == "a" * 13 + "…" + "a" * 10 + ".wav"


def test_labels_may_be_many_and_a_file_of_them_must_be_there_and_readable(corpus, recordings, tmp_path):
    many = ",".join(f"label number {number}" for number in range(200))
    assert run("classify", recordings / "low.wav", "--labels", many).stdout
    (tmp_path / "labels.txt").write_bytes(b"\xff\xfe")
    for name, part in ((tmp_path / "labels.txt", "not UTF-8"), ("none.txt", "no such file")):
        assert_one_line_error(run("classify", recordings / "low.wav", "--labels", name, code=1), part)


def test_a_damaged_table_is_one_line(corpus):
    for path in corpus.path.glob("corpus.lance/data/*.lance"):
        path.write_bytes(path.read_bytes()[:100])
    assert_one_line_error(run("search", "rain", "--db", corpus.path, code=1), "damaged")


def test_examples_in_help_keep_their_lines():
    for command in ("search", "classify", "index"):
        text = run(command, "--help").stdout
        assert "\\b" not in text
        assert sum(line.strip().startswith(f"clara-search {command} ") for line in text.splitlines()) == 2


def test_a_flat_index_finds_all_and_has_nothing_to_warn_of(corpus):
    built = run("ann", "build", "--db", corpus.path, "--backend", "flat", "--target-recall", 1.0)
    assert "1.000" in built.stdout
    assert built.stderr == ""


def test_an_index_that_misses_its_target_says_so(corpus, monkeypatch):
    monkeypatch.setattr(tuning, "tune", lambda *_: (1, 0.5))
    assert "below the target of 0.9" in run("ann", "build", "--db", corpus.path, "--target-recall", 0.9).stderr

"""Recordings are transcribed while they are indexed, by a real Whisper whose small decoder has one thing to say."""

from __future__ import annotations

import json
import os
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from clara_search.audio.windows import Window
from clara_search.commands.main import main
from clara_search.errors import ConfigError, DeviceError, FormatError, UnknownModel
from clara_search.retrieval.index import Index
from clara_search.store.schema import SPOKEN_WORDS
from indexer.ledger.failures import notes, transcribers
from indexer.pipeline import index
from indexer.ray_executor import Ray
from indexer.transcribe import stage
from indexer.transcribe.model import Speech, load_transcriber
from indexer.transcript import Transcript, Word
from tests.helpers import ToneEncoder, write_tone
from tests.indexer.transcribe.scripted import RATE, WORDS, voice, write_model

pytest.importorskip("faster_whisper", reason="needs pip install 'clara-search[transcribe]'")
pytest.importorskip("transformers", reason="makes the model, needs pip install 'clara-search[clap]'")
SCRIPT = " ".join(WORDS)


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "whisper")


@pytest.fixture(scope="module")
def transcriber(whisper):
    return load_transcriber(whisper, "cpu", "fp32")


@pytest.fixture
def sounds(tmp_path):
    """A recording of a voice, one of a tone, and one of a voice that is captioned in a list."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    soundfile.write(folder / "voice.wav", voice(3.0), RATE)
    soundfile.write(folder / "captioned.wav", voice(3.0, seed=1), RATE)
    write_tone(folder / "tone.wav", 1000)
    (folder / "list.csv").write_text("path,text,language\nvoice.wav,,\ntone.wav,,\ncaptioned.wav,a caption,en\n")
    return folder / "list.csv"


def rows_of(database, columns=("uri", "start_s", "text", "language", SPOKEN_WORDS)):
    rows = database.table().scan(list(columns)).to_pylist()
    return sorted(rows, key=lambda row: [str(value) for value in row.values()])


def by_name(database):
    return {Path(row["uri"]).name: row for row in rows_of(database)}


def test_recordings_without_a_text_get_what_they_say(sounds, database, encoder, transcriber):
    result = index(sounds, database, encoder, transcribe=transcriber)
    assert (result.indexed, result.transcribed, result.silent, result.untranscribed) == (3, 1, 1, 0)
    rows = by_name(database)
    assert (rows["voice.wav"]["text"], rows["voice.wav"]["language"]) == (SCRIPT, "es")
    assert [word["word"].strip() for word in rows["voice.wav"][SPOKEN_WORDS]] == list(WORDS)
    assert all(0 <= word["start_s"] <= word["end_s"] <= 3.0 for word in rows["voice.wav"][SPOKEN_WORDS])
    assert (rows["captioned.wav"]["text"], rows["captioned.wav"][SPOKEN_WORDS]) == ("a caption", None)
    assert (rows["tone.wav"]["text"], rows["tone.wav"][SPOKEN_WORDS]) == (None, None)
    assert [Path(note["uri"]).name for note in notes(database) if note["notes"] == ["no speech"]] == ["tone.wav"]
    assert transcribers(database) == {transcriber.label: 2}
    (hit,) = Index(database.table(), encoder=encoder).search("señor nunez", text_weight=1.0)
    assert (Path(hit.uri).name, hit.words) == ("voice.wav", ["senor", "nunez"])
    assert hit.said_s == rows["voice.wav"][SPOKEN_WORDS][2]["start_s"]


def test_only_what_is_missing_is_transcribed_later(sounds, database, transcriber, monkeypatch):
    encoder = ToneEncoder()
    index(sounds, database, encoder)
    embedded, heard = encoder.clips_encoded, []
    transcribe = type(transcriber).transcribe
    monkeypatch.setattr(type(transcriber), "transcribe", lambda self, *a: heard.append(1) or transcribe(self, *a))
    result = index(sounds, database, encoder, transcribe=transcriber)
    assert (result.transcribed, result.silent, result.unchanged) == (1, 1, 1)
    assert by_name(database)["voice.wav"]["text"] == SCRIPT
    assert encoder.clips_encoded == embedded  # the vectors are there
    again = index(sounds, database, encoder, transcribe=transcriber)
    assert (again.unchanged, again.transcribed, again.silent, len(heard)) == (3, 0, 0, 2)


def test_a_transcript_stays_with_its_recording(sounds, database, encoder, transcriber):
    index(sounds, database, encoder, transcribe=transcriber)
    folder = sounds.parent
    shutil.copy(folder / "voice.wav", folder / "copy.wav")
    sounds.write_text("path,text,place\nvoice.wav,,hall\ncopy.wav,,yard\ntone.wav,,\n")  # other columns, and a copy
    result = index(sounds, database, encoder)  # without a model
    assert result.failed == 0
    rows = by_name(database)
    assert rows["voice.wav"]["text"] == rows["copy.wav"]["text"] == SCRIPT
    (folder / "voice.wav").rename(folder / "moved.wav")
    sounds.write_text("path,text,place\nmoved.wav,,hall\ncopy.wav,,yard\ntone.wav,,\n")
    index(sounds, database, encoder, prune=True)
    rows = by_name(database)
    assert sorted(rows) == ["copy.wav", "moved.wav", "tone.wav"]
    assert rows["moved.wav"]["text"] == SCRIPT
    assert len(rows["moved.wav"][SPOKEN_WORDS]) == len(WORDS)
    assert transcribers(database) == {transcriber.label: 3}
    again = index(sounds, database, encoder, transcribe=transcriber)
    assert (again.transcribed, again.silent, again.unchanged) == (0, 0, 3)


def test_transcripts_of_several_models_are_said_to_be_so(sounds, database, encoder, transcriber, tmp_path, caplog):
    index(sounds, database, encoder, transcribe=transcriber)
    other = load_transcriber(write_model(tmp_path / "other", ("Hello", "there.")), "cpu", "fp32")
    soundfile.write(sounds.parent / "new.wav", voice(3.0, seed=5), RATE)
    index(sounds.parent / "new.wav", database, encoder, transcribe=other)
    rows = by_name(database)
    assert (rows["voice.wav"]["text"], rows["new.wav"]["text"]) == (SCRIPT, "Hello there.")
    (line,) = [record.getMessage() for record in caplog.records if "several models" in record.getMessage()]
    assert f"whisper ({transcriber.fingerprint[:8]}...) 2, other ({other.fingerprint[:8]}...) 1" in line


class Counting:
    """Says the number of each whole second of a staircase that it hears; fails where a model may."""

    label = "counting 0123"

    def __init__(self, problem=None):
        self.problem = problem
        self.lengths = []

    def transcribe(self, waveform, language=None):
        if self.problem:
            raise self.problem
        self.lengths.append(len(waveform) / RATE)
        levels = (waveform * 1000).round().astype(int)
        starts = [0, *(np.flatnonzero(np.diff(levels)) + 1), len(levels)]
        whole = [start for start, end in pairwise(starts) if end - start > 0.6 * RATE]
        return Speech("en", [Word(f" {levels[at]}", at / RATE + 0.1, at / RATE + 0.4, 0.9) for at in whole])


def staircase(seconds):
    """A recording whose level is the number of the second."""
    return np.repeat(np.arange(seconds) / 1000, RATE).astype(np.float32)


@pytest.mark.parametrize(("seconds", "window_s", "hop_s"), [(3, 10.0, 5.0), (23, 10.0, 5.0), (47, 4.0, 4.0)])
@pytest.mark.parametrize("block_s", [120.0, 7.0])
def test_each_window_has_the_words_that_are_said_in_it(
    tmp_path, database, encoder, monkeypatch, seconds, window_s, hop_s, block_s
):
    monkeypatch.setattr(stage, "BLOCK_S", block_s)
    soundfile.write(tmp_path / "long.wav", staircase(seconds), RATE, subtype="FLOAT")
    counting = Counting()
    index(tmp_path / "long.wav", database, encoder, window_s=window_s, hop_s=hop_s, transcribe=counting)
    for row in database.table().scan(["start_s", "end_s", "text", SPOKEN_WORDS]).to_pylist():
        said = [second for second in range(seconds) if row["start_s"] <= second + 0.25 < row["end_s"]]
        assert row["text"] == " ".join(map(str, said))
        assert [word["start_s"] for word in row[SPOKEN_WORDS]] == pytest.approx([second + 0.1 for second in said])
    assert max(counting.lengths) <= block_s + window_s


def test_a_model_that_fails_costs_the_transcript_alone(tmp_path, database, encoder):
    soundfile.write(tmp_path / "long.wav", staircase(12), RATE)
    failed = index(tmp_path / "long.wav", database, encoder, transcribe=Counting(RuntimeError("out of memory; sorry")))
    assert (failed.indexed, failed.failed, failed.untranscribed) == (1, 0, 1)
    ((note,),) = [entry["notes"] for entry in notes(database)]
    assert note == "not transcribed (out of memory, sorry)"
    again = index(tmp_path / "long.wav", database, encoder, transcribe=Counting())
    assert (again.transcribed, again.untranscribed, notes(database)) == (1, 0, [])


def test_a_source_that_has_a_column_of_that_name_keeps_it_under_another(tmp_path, database, encoder):
    soundfile.write(tmp_path / "long.wav", staircase(3), RATE, subtype="FLOAT")
    (tmp_path / "list.csv").write_text(f"path,{SPOKEN_WORDS}\nlong.wav,their own\n")
    index(tmp_path / "list.csv", database, encoder, transcribe=Counting())
    (row,) = database.table().scan([f"source_{SPOKEN_WORDS}", "text"]).to_pylist()
    assert row == {f"source_{SPOKEN_WORDS}": "their own", "text": "0 1 2"}


def test_the_middle_of_a_word_says_in_which_window_it_is():
    words = [Word(" one", 0.0, 1.0, 1.0), Word(" two", 1.8, 2.4, 0.5)]
    transcript = Transcript("name 01", "en", words)
    assert transcript.within(Window(0.0, 2.0))["text"] == "one"
    assert transcript.within(Window(2.0, 4.0))["text"] == "two"
    assert transcript.within(Window(4.0, 6.0)) == {"text": None, "language": None, SPOKEN_WORDS: None}
    assert (
        Transcript.of_rows("name 01", [transcript.within(Window(start, start + 2.0)) for start in (0.0, 1.0, 2.0)])
        == transcript
    )


def test_what_is_no_transcriber_is_refused_and_nothing_is_fetched(tmp_path, sounds, whisper, database, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download",
        lambda name, **_: asked.append(name) or (_ for _ in ()).throw(OSError("no network")),
    )
    for name in ("base", "large-v3", "https://example.org/whisper", "nowhere/"):
        with pytest.raises(UnknownModel, match="expected the folder of a Whisper model in CTranslate2 format"):
            load_transcriber(name)
    assert asked == []
    with pytest.raises(UnknownModel, match="hf download Systran/faster-whisper-base"):
        load_transcriber("Systran/faster-whisper-base")
    assert asked == ["Systran/faster-whisper-base"]
    with pytest.raises(FormatError, match=r"it has no model\.bin"):
        load_transcriber(tmp_path)
    bare = shutil.copytree(whisper, tmp_path / "bare")
    (bare / "tokenizer.json").unlink()
    with pytest.raises(FormatError, match=r"it has no tokenizer\.json"):
        load_transcriber(bare)
    shutil.copytree(whisper, tmp_path / "broken")
    (tmp_path / "broken" / "model.bin").write_bytes(b"no model")
    with pytest.raises(FormatError, match="not a Whisper model that can be loaded"):
        load_transcriber(tmp_path / "broken")
    with pytest.raises(DeviceError, match="cannot transcribe on 'tpu'"):
        load_transcriber(whisper, "tpu")
    with pytest.raises(ConfigError, match="a Ray cluster does not transcribe"):
        index(sounds, database, ToneEncoder(), engine=Ray(), transcribe=whisper)


def test_the_fingerprint_is_that_of_the_files(whisper, transcriber, tmp_path):
    copy = shutil.copytree(whisper, tmp_path / "copy")
    assert load_transcriber(copy, "cpu").fingerprint == transcriber.fingerprint
    (copy / "preprocessor_config.json").write_text("{}")
    assert load_transcriber(copy, "cpu").fingerprint != transcriber.fingerprint


def test_the_command_transcribes_and_says_what_it_did(sounds, whisper, tmp_path, monkeypatch):
    monkeypatch.setattr("clara_search.models.registry.load_encoder", lambda *_: ToneEncoder())
    command = ["index", str(sounds), "--db", str(tmp_path / "db"), "--transcribe", str(whisper)]
    result = CliRunner().invoke(main, command)
    assert "1 recordings transcribed, 1 in which nothing is said, 0 that could not be" in result.stdout
    summary = json.loads(CliRunner().invoke(main, [*command, "--json"]).stdout)
    assert (summary["transcribed"], summary["silent"], summary["unchanged"]) == (0, 0, 3)
    described = json.loads(CliRunner().invoke(main, ["db", "info", "--db", str(tmp_path / "db"), "--json"]).stdout)
    assert described["words"] is True
    assert list(described["transcribers"].values()) == [2]
    assert "--engine ray does not transcribe" in CliRunner().invoke(main, [*command, "--engine", "ray"]).stderr


@pytest.mark.slow
def test_a_trained_model_writes_down_a_sentence(tmp_path, database, encoder):
    folder, speech = os.environ.get("CLARA_TEST_WHISPER"), os.environ.get("CLARA_TEST_SPEECH")
    if not folder or not speech:
        pytest.skip(
            "set CLARA_TEST_WHISPER to a Whisper model in CTranslate2 format, and CLARA_TEST_SPEECH to a recording"
        )
    index(speech, database, encoder, transcribe=folder)
    rows = database.table().scan(["text", SPOKEN_WORDS]).to_pylist()
    assert any(row["text"] for row in rows)
    expected = os.environ.get("CLARA_TEST_WORDS", "")
    assert not expected or Index(database.table(), encoder=encoder).search(expected, text_weight=1.0)

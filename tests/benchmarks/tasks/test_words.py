"""The words benchmark, on voices that a small real Whisper hears."""

from __future__ import annotations

import json

import pytest
import soundfile
from click.testing import CliRunner

from benchmarks.tasks.answers import words
from tests.indexer.transcribe.scripted import RATE, WORDS, voice, write_model

pytest.importorskip("faster_whisper", reason="needs pip install 'clara-search[transcribe]'")
pytest.importorskip("transformers", reason="makes the model, needs pip install 'clara-search[clap]'")


@pytest.mark.slow
def test_what_a_transcript_says_is_found_by_its_words(tmp_path, monkeypatch):
    monkeypatch.setattr(words, "_ROWS", 200)
    monkeypatch.setattr(words, "_TIMED", 5)
    folder = write_model(tmp_path / "whisper")
    texts = [" ".join(WORDS), "otra cosa", "nada más"]
    for number in range(3):
        soundfile.write(tmp_path / f"{number}.wav", voice(3.0, seed=number), RATE)
    lines = [f'{number}.wav,"{text}",es' for number, text in enumerate(texts)]
    (tmp_path / "list.csv").write_text("\n".join(["path,text,language", *lines]))
    arguments = [
        "--data",
        str(tmp_path / "list.csv"),
        "--transcriber",
        str(folder),
        "--out",
        str(tmp_path / "out.json"),
    ]
    result = CliRunner().invoke(words.words, arguments, catch_exceptions=False)
    assert "| words |" in result.stdout
    measured = json.loads((tmp_path / "out.json").read_text())
    assert (measured["recordings"], measured["transcribed"], measured["silent"]) == (3, 3, 0)
    assert measured["recall"]["words"][1][0] == pytest.approx(1 / 3)  # all say the same: one query has their words
    assert measured["recall"]["vectors"][1][0] == 1.0  # of three recordings, ten are found
    assert set(measured["p50_ms"]) == {"vectors", "both", "words"}

"""The demo, end to end, on a corpus of a few tones and an encoder that knows them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from benchmarks.demo import corpus as demo_corpus
from benchmarks.demo import debian
from benchmarks.demo import run as demo_module
from benchmarks.demo.corpus import Corpus, Recording
from benchmarks.demo.run import audio_query, build_index, demo, unseen_retrieval
from trainer.data.text_split import text_split

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SAMPLE_RATE = 8000


class KnowingEncoder:
    """Recording number i is i / 1000 loud: its vector is that of the i-th text, and of nothing else."""

    name = "knowing"
    fingerprint = "f" * 64
    dim = 64
    sample_rate = SAMPLE_RATE

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = list(dict.fromkeys(texts))

    def encode_audio(self, waveforms: Sequence[np.ndarray]) -> np.ndarray:
        return np.eye(self.dim, dtype=np.float32)[[round(float(w.max()) * 1000) for w in waveforms]]

    def encode_text(self, texts: Sequence[str], language: str | None = None) -> np.ndarray:
        known = [self.texts.index(text) if text in self.texts else self.dim - 1 for text in texts]
        return np.eye(self.dim, dtype=np.float32)[known]


def _corpus(folder: Path, rows: Sequence[tuple[str, str, str]]) -> Corpus:
    """A corpus of (text, category, label) rows, whose i-th recording is i / 1000 loud."""
    folder.mkdir(parents=True)
    recordings = []
    for number, (text, category, label) in enumerate(rows):
        path = f"{number}.wav"
        soundfile.write(folder / path, np.full(800, number / 1000), SAMPLE_RATE, subtype="FLOAT")
        language = "en" if category == "speech" else "zxx"
        recordings.append(Recording(path, text, language, category, label, "espeak", "CC0-1.0", "nobody"))
    return demo_corpus._write_corpus(folder, recordings)


@pytest.fixture
def unseen() -> list[str]:
    return [text for text in (f"sentence {n}" for n in range(200)) if text_split(text) != "train"][:12]


@pytest.fixture
def corpus(tmp_path: Path, unseen: list[str]) -> Corpus:
    seen = [text for text in (f"sentence {n}" for n in range(200)) if text_split(text) == "train"][:5]
    rows = [(word, "speech", f"digit:{digit}") for digit, word in enumerate(WORDS)]
    return _corpus(tmp_path / "data" / "spoken", rows + [(text, "speech", "") for text in [*seen, *unseen]])


@pytest.fixture
def encoder(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> KnowingEncoder:
    knowing = KnowingEncoder([recording.text for recording in corpus.recordings])
    monkeypatch.setattr(demo_module, "load_encoder", lambda model: knowing)
    monkeypatch.setattr(debian.shutil, "which", lambda name: None)
    return knowing


@pytest.mark.slow
def test_the_demo_prints_every_step_and_indexes_nothing_on_its_second_run(
    corpus: Corpus, encoder: KnowingEncoder, tmp_path: Path
) -> None:
    runs = [CliRunner().invoke(demo, ["--folder", str(tmp_path / "data")]) for _ in range(2)]
    for run in runs:
        assert run.exit_code == 0, run.output
        for step in ("corpus", "index", "by text", "by sound", "Zero-shot", "never trained on", "clara-search search"):
            assert step in run.output
    assert "27 indexed, 0 unchanged, 0 failed" in runs[0].output
    assert "0 indexed, 27 unchanged, 0 failed" in runs[1].output
    assert "en           10      1.00" in runs[0].output  # of ten digits all are right


def test_only_texts_outside_the_training_split_are_scored(
    corpus: Corpus, encoder: KnowingEncoder, tmp_path: Path, unseen: list[str]
) -> None:
    index = build_index([corpus.manifest], tmp_path / "db", encoder)
    scores = unseen_retrieval(index)["espeak"]
    expected = len(unseen)  # the model was trained on the words of digits, whatever their hash
    assert scores.n_queries == scores.n_gallery == expected
    assert scores.recall == {1: 1.0, 5: 1.0, 10: 1.0}
    assert scores.chance_recall[5] == pytest.approx(5 / expected)


def test_a_changed_model_indexes_anew(corpus: Corpus, encoder: KnowingEncoder, tmp_path: Path) -> None:
    build_index([corpus.manifest], tmp_path / "db", encoder)
    encoder.fingerprint = "e" * 64
    assert build_index([corpus.manifest], tmp_path / "db", encoder).table.count() == 27


def test_own_recordings_are_searched_and_classified(encoder: KnowingEncoder, corpus: Corpus, tmp_path: Path) -> None:
    run = CliRunner().invoke(demo, ["--audio", str(corpus.folder), "--folder", str(tmp_path / "own folder")])
    assert run.exit_code == 0, run.output
    assert "27 indexed" in run.output
    assert "similar to 0.wav" in run.output
    assert "sound effect" in run.output or "speech" in run.output


def test_a_folder_without_recordings_is_one_clear_line(encoder: KnowingEncoder, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    run = CliRunner().invoke(demo, ["--audio", str(tmp_path / "empty"), "--folder", str(tmp_path / "own")])
    assert run.exit_code == 1
    assert "no recordings found" in run.output
    assert "Traceback" not in run.output


def test_the_audio_query_is_a_recording_of_the_corpus(corpus: Corpus) -> None:
    assert audio_query([corpus]) == corpus.folder / "0.wav"

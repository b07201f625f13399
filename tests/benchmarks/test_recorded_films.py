"""The whole path over films of real speech, laid out as MELD is: Debian's recorded prompts, as long as apt has them."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.demo.corpus import make_recorded_corpus
from benchmarks.demo.debian import CorpusError
from clara_search.audio.decode import load_audio
from clara_search.commands.main import main as clara_search
from tests.clara_search.datasets.published import MELD_HEADER
from tests.trainer.probing.conftest import film, run
from trainer.__main__ import main as trainer

FOLDERS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
MAX_DURATION_S = {"joy": 1.0, "anger": 2.0, "neutral": 6.0}
"""Emotions by the duration of a prompt, in seconds: one that a model can tell."""


@pytest.mark.slow
def test_recorded_speech_in_films_is_prepared_probed_and_classified(tmp_path: Path) -> None:
    try:
        corpus = make_recorded_corpus(tmp_path / "corpus")
    except CorpusError as reason:
        pytest.skip(f"no recorded prompts here: {reason}")
    raw, out, folder = tmp_path / "MELD.Raw", tmp_path / "meld", tmp_path / "run"
    tables: dict[str, list[list[object]]] = {split: [] for split in FOLDERS}
    films: list[Path] = []
    prompts = [recording for recording in corpus.recordings if recording.category == "speech"]
    for number, prompt in enumerate(prompts[:160]):
        waveform = load_audio(corpus.folder / prompt.path, 16000)
        bounds = pairwise([0.0, *MAX_DURATION_S.values()])
        named = zip(MAX_DURATION_S, bounds, strict=True)
        emotion = next((name for name, (low, high) in named if low <= len(waveform) / 16000 < high), None)
        if emotion is None:
            continue
        split = ("train", "train", "train", "dev", "test")[number % 5]
        films.append(film(raw / FOLDERS[split] / f"dia{number}_utt0.mp4", waveform, 16000))
        tables[split].append([number, prompt.text, "Ann", emotion, emotion, number, 0, 1, 1, "a", "b"])
    for split, rows in tables.items():
        with (raw / f"{split}_sent_emo.csv").open("w", encoding="utf-8", newline="") as file:
            file.write(MELD_HEADER)
            csv.writer(file).writerows(rows)
    films[0].write_bytes(films[0].read_bytes()[:3000])
    films[1].write_bytes(b"not a film" * 500)
    film(films[2], None, 16000)

    run(trainer, "prepare", "meld", "--source", raw, "--out", out)
    assert len((out / "left-out.txt").read_text().splitlines()) == 3
    output = run(trainer, "prepare", "meld", "--source", raw, "--out", out).output
    assert f"{len(films) - 3} recordings" in output
    assert "(0 converted now)" in output
    settings = ("--data", out / "manifest.csv", "--label", "emotion", "--head", "mlp", "--inputs", "both")
    run(trainer, "probe", *settings, "--cache", tmp_path / "cache", "--out", folder)
    report = json.loads((folder / "report.json").read_text())
    scores = report["labels"]["emotion"]
    assert report["clips"]["used"] == len(films) - 3
    assert scores["scores"]["uar"]["value"] > scores["majority"]["uar"]

    test = [row for row in csv.DictReader((out / "manifest.csv").open(encoding="utf-8")) if row["split"] == "test"]
    arguments = ["classify", *(str(out / row["path"]) for row in test), "--head", str(folder / "head"), "--json"]
    arguments += [part for row in test for part in ("--text", row["text"])]
    result = CliRunner().invoke(clara_search, arguments)
    assert result.exit_code == 0, result.output
    labels = [json.loads(line)["label"] for line in result.stdout.splitlines()]
    right = sum(label == row["emotion"] for label, row in zip(labels, test, strict=True)) / len(test)
    assert right == pytest.approx(scores["scores"]["accuracy"]["value"])

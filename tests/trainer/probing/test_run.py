"""A probe from a published data set to a head that classifies recordings, and its folder."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clara_search.classification.head_files import load_head
from clara_search.commands.main import main as clara_search
from clara_search.errors import ClaraError, DeviceError, OutputError
from tests.trainer.probing.conftest import SENTENCES, probe_config, run
from trainer.__main__ import main as trainer
from trainer.probing.experiment import ProbeConfig
from trainer.probing.run import probe
from trainer.probing.sgd import FitConfig
from trainer.runtime.folder import run_lock


@pytest.mark.slow
def test_films_are_prepared_probed_and_classified(meld: Path, tmp_path: Path) -> None:
    out, folder = tmp_path / "meld", tmp_path / "run"
    output = run(trainer, "prepare", "MELD", "--source", meld, "--out", out).output
    assert "33 recordings" in output
    reasons = (out / "left-out.txt").read_text().splitlines()
    assert len(reasons) == 3
    assert sum(".mp4: not a recording that can be decoded" in reason for reason in reasons) == 2
    assert all(reason.count(".mp4") == 1 for reason in reasons)
    assert sum("has no audio track" in reason for reason in reasons) == 1

    manifest = out / "manifest.csv"
    settings = ("--data", manifest, "--cache", tmp_path / "cache", "--out", folder, "--set", "fit.lr=0.01")
    settings = (*settings, "--set", "fit.epochs=30", "--set", "fit.batch_size=8")
    output = run(trainer, "probe", *settings, "--label", "emotion", "--label", "sentiment", "--logger", "mlflow").output
    report = json.loads((folder / "report.json").read_text())
    assert report["fold_kind"] == "declared splits"
    assert report["clips"]["folds"] == {"test": [16, 6, 11]}
    assert report["shared_speakers"] == {"test": 0}
    assert report["contamination"]["trained_on"] == []
    assert report["vectors_computed"] == 33
    emotion = report["labels"]["emotion"]
    assert emotion["classes"] == ["anger", "joy", "sadness"]
    assert emotion["tested"] == {"anger": 3, "joy": 4, "sadness": 4}
    assert emotion["chance"]["accuracy"] == pytest.approx(1 / 3)
    score = emotion["scores"]["accuracy"]
    assert score["interval"][0] <= score["value"] <= score["interval"][1]
    assert score["value"] >= 6 / 11  # three sentences, which other voices say
    assert "33 clips, declared splits" in output
    for name in ("confusion-emotion.png", "confusion-sentiment.png", "curves.png", "log.csv"):
        assert (folder / name).stat().st_size > 100
    assert list(folder.glob("mlruns/*/*/metrics/valid_uar"))
    (tracked,) = folder.glob("mlruns/*/*/metrics/test_emotion_accuracy")
    assert float(tracked.read_text().split()[1]) == pytest.approx(emotion["scores"]["accuracy"]["value"])
    assert "status: 3" in (tracked.parent.parent / "meta.yaml").read_text()  # finished

    test = [row for row in csv.DictReader(manifest.open(encoding="utf-8")) if row["split"] == "test"]
    files = [out / row["path"] for row in test]
    arguments = ("classify", *files, "--head", folder / "head", "--json")
    named = [json.loads(line) for line in run(clara_search, *arguments).stdout.splitlines()]
    right = sum(one["label"] == row["emotion"] for one, row in zip(named, test, strict=True))
    assert right / len(test) == pytest.approx(score["value"])
    assert all(sum(one["scores"].values()) == pytest.approx(1.0, abs=1e-4) for one in named)
    middle = float(np.median([one["score"] for one in named]))
    unsure = run(clara_search, *arguments, "--min-probability", middle).stdout.splitlines()
    assert [json.loads(line)["label"] for line in unsure] == [
        one["label"] if one["score"] >= middle else None for one in named
    ]
    moods = [json.loads(line) for line in run(clara_search, *arguments, "--task", "sentiment").stdout.splitlines()]
    assert moods[0]["scores"].keys() == {"negative", "positive"}


@pytest.mark.slow
def test_text_inputs_are_probed_and_a_head_with_text_input_needs_the_text(meld: Path, tmp_path: Path) -> None:
    out = tmp_path / "meld"
    run(trainer, "prepare", "meld", "--source", meld, "--out", out)
    for inputs, head in (("text", "logistic"), ("both", "mlp"), ("late", "logistic")):
        config = ProbeConfig(
            str(out / "manifest.csv"),
            ("emotion",),
            fit=FitConfig(head, inputs, lr=0.01, epochs=20, batch_size=8),  # type: ignore[arg-type]
        )
        report = probe(config, tmp_path / inputs, tmp_path / "cache")
        assert report["labels"]["emotion"]["scores"]["accuracy"]["value"] > 0.75  # the text gives it away
    file = next((out / "audio").rglob("*.flac"))
    arguments = ("classify", file, "--head", tmp_path / "text" / "head")
    assert "the head needs the transcript" in run(clara_search, *arguments, code=1).output

    def joy(text: str) -> float:
        return float(json.loads(run(clara_search, *arguments, "--text", text, "--json").stdout)["scores"]["joy"])

    assert joy(SENTENCES["joy"]) > joy(SENTENCES["anger"])


@pytest.mark.slow
def test_a_folder_holds_one_run_at_a_time_and_no_pictures_of_an_earlier_one(
    small: Path, tones: Path, tmp_path: Path
) -> None:
    changed_config = probe_config(tones, small, head="logistic")
    with run_lock(tmp_path / "run"), pytest.raises(OutputError, match="another process trains there"):
        probe(changed_config, tmp_path / "run", tmp_path / "cache")
    tones.write_text(tones.read_text().replace('"high,loud"', "loud"))
    probe(replace(changed_config, labels=("pitch", "tags")), tmp_path / "run", tmp_path / "cache")
    probe(changed_config, tmp_path / "run", tmp_path / "cache")
    assert [path.name for path in (tmp_path / "run").glob("confusion-*")] == ["confusion-pitch.png"]


@pytest.mark.slow
def test_a_head_over_another_encoder_is_refused(small: Path, tones: Path, tmp_path: Path) -> None:
    probe(probe_config(tones, small, head="logistic"), tmp_path / "run", tmp_path / "cache")
    arguments = ("classify", tones.parent / "1.wav", "--head", tmp_path / "run" / "head")
    assert "gives other vectors" in run(clara_search, *arguments, "--model", "clara-small", code=1).output
    assert "has no task 'mood'; it has pitch" in run(clara_search, *arguments, "--task", "mood", code=1).output
    known = tmp_path / "run" / "head" / "head.json"
    known.write_text(known.read_text().replace(load_head(known.parent).config.model.fingerprint, ""))
    assert "the head takes vectors of" in run(clara_search, *arguments, "--model", "clara-small", code=1).output


def test_a_misspelled_or_wrong_setting_is_refused(tones: Path, tmp_path: Path) -> None:
    arguments = ("probe", "--data", tones, "--label", "pitch", "--set")
    assert "did you mean 'epochs'" in run(trainer, *arguments, "fit.epoch=3", code=1).output
    assert "folds must be at least 2" in run(trainer, *arguments, "folds=1", code=1).output
    for value in (
        "fit.lr=nan",
        "fit.weight_decay=inf",
        "fit.hidden=[99999999]",
        "fit.batch_size=9999999999999999999999",
    ):
        assert "must lie between" in run(trainer, *arguments, value, code=1).output
    assert "seed must lie" in run(trainer, *arguments, "fit.seed=-1", code=1).output
    assert "hop_s must be" in run(trainer, *arguments, "hop_s=1e-9", code=1).output
    with pytest.raises(ClaraError, match="no model"):
        probe(probe_config(tones, tmp_path / "none"), tmp_path / "run", tmp_path / "cache")


def test_a_device_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="'tpu'"):
        probe(ProbeConfig("data.csv", ("label",), device="tpu"), tmp_path / "run", tmp_path / "cache")

"""Warnings of a probing report."""

import json
import shutil
from pathlib import Path

import pytest

from clara_search.models.training_sources import training_sources
from tests.trainer.probing.conftest import probe_config, run
from trainer.__main__ import main as trainer
from trainer.probing.run import probe


@pytest.mark.slow
def test_a_score_on_training_sources_is_marked_as_contaminated(small: Path, tones: Path, tmp_path: Path) -> None:
    arguments = ("--data", tones, "--label", "pitch", "--model", small, "--out", tmp_path / "run", "--head", "logistic")
    output = run(trainer, "probe", *arguments, "--cache", tmp_path / "cache").output
    assert "CONTAMINATED" in output
    assert "crema_d" in output
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["contamination"]["trained_on"] == ["crema_d"]
    assert report["contamination"]["share"] == 1.0
    assert report["fold_kind"] == "speaker-disjoint folds"
    assert set(report["labels"]["pitch"]["folds"]) == {"1", "2", "3", "4"}
    assert report["labels"]["pitch"]["n"] == 40
    tones.write_text(tones.read_text().replace("crema_d", "mine"))
    report = probe(probe_config(tones, small), tmp_path / "run", tmp_path / "cache")
    assert report["contamination"]["share"] == 0.0
    bare = tmp_path / "bare"
    shutil.copytree(small, bare)
    (bare / "README.md").write_text("# nothing is known")
    assert training_sources(bare) is None
    assert probe(probe_config(tones, bare), tmp_path / "run", tmp_path / "cache")["contamination"]["share"] is None


def test_the_bundled_model_s_card_lists_its_training_sources() -> None:
    assert {"queen_en", "asterisk_en", "hydrogen"} <= set(training_sources("clara-small") or ())


def test_a_class_of_one_clip_is_left_out_and_reported(small: Path, tones: Path, tmp_path: Path) -> None:
    tones.write_text(tones.read_text().replace("a tone,low", "a tone,middle", 1))
    arguments = ("--data", tones, "--label", "pitch", "--model", small, "--out", tmp_path / "run", "--head", "knn")
    output = run(trainer, "probe", *arguments, "--cache", tmp_path / "cache").output
    assert "pitch: too few clips, left out: middle (1)" in output
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert (report["labels"]["pitch"]["classes"], report["labels"]["pitch"]["n"]) == (["high", "low"], 39)


def test_a_class_that_is_tested_but_never_trained_on_counts_as_wrong_and_is_reported(
    small: Path, tones: Path, tmp_path: Path
) -> None:
    lines = tones.read_text().splitlines()
    rows = [f"{line},{('train', 'train', 'valid', 'test')[n // 10]}" for n, line in enumerate(lines[1:])]
    rows = [row.replace("a tone,high", "a tone,odd") if n in (36, 37, 39) else row for n, row in enumerate(rows)]
    tones.write_text("\n".join([lines[0] + ",split", *rows]) + "\n")
    report = probe(probe_config(tones, small, head="logistic"), tmp_path / "run", tmp_path / "cache")
    scores = report["labels"]["pitch"]
    assert scores["never_trained"] == ["odd"]
    assert scores["recall"]["odd"] == 0.0
    assert scores["scores"]["accuracy"]["value"] <= 8 / 10

"""Hyperparameter search."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clara_search.audio.decode import load_audio
from clara_search.classification.head_files import load_head
from clara_search.errors import ConfigError
from clara_search.models.registry import load_encoder
from tests.trainer.probing.conftest import probe_config
from trainer.probing.run import probe
from trainer.probing.sgd import FitConfig


def test_settings_are_searched_for_on_the_validation_split(small: Path, tones: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="the extra `probe` is not installed")
    lines = tones.read_text().splitlines()
    rows = [f"{line},{('train', 'train', 'valid', 'test')[n // 10]}" for n, line in enumerate(lines[1:])]
    tones.write_text("\n".join([lines[0] + ",split", *rows]) + "\n")
    changed_config = replace(probe_config(tones, small, head="mlp", hidden=(8,)), trials=3)
    report = probe(changed_config, tmp_path / "run", tmp_path / "cache")
    assert report["labels"]["pitch"]["scores"]["accuracy"]["value"] > 0.8
    assert load_head(tmp_path / "run" / "head").config.hidden in ((512, 128), (256, 64), (256,), (128,))
    with pytest.raises(ConfigError, match="chooses its own settings"):
        probe(replace(changed_config, fit=FitConfig("knn")), tmp_path / "run", tmp_path / "cache")


@pytest.mark.slow
def test_a_search_keeps_the_encoder_of_its_best_head(small: Path, tones: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="the extra `probe` is not installed")
    lines = tones.read_text().splitlines()
    rows = [f"{line},{('train', 'train', 'valid', 'test')[n // 10]}" for n, line in enumerate(lines[1:])]
    tones.write_text("\n".join([lines[0] + ",split", *rows]) + "\n")
    changed_config = replace(probe_config(tones, small, encoder_lr=3e-2), unfreeze="all", trials=3)
    changed_config = replace(changed_config, fit=replace(changed_config.fit, epochs=2))
    report = probe(changed_config, tmp_path / "run", tmp_path / "cache")
    folder = tmp_path / "run" / "head"
    head, encoder = load_head(folder), load_encoder(folder / "encoder")
    files = [tones.parent / f"{n}.wav" for n in range(30, 40)]
    vectors = encoder.encode_audio([load_audio(file, encoder.sample_rate) for file in files])
    named = head.probabilities(vectors)["pitch"].argmax(axis=1)
    counts = np.zeros((2, 2), dtype=int)
    for n, guess in zip(range(30, 40), named, strict=True):
        counts[(n + 1) % 2, guess] += 1  # "high" is the first of the classes
    assert report["labels"]["pitch"]["confusion"] == counts.tolist()
    probe(probe_config(tones, small, head="logistic"), tmp_path / "run", tmp_path / "cache")
    assert not (folder / "encoder").exists()

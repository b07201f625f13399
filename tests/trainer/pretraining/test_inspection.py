"""A run before its first step: dry run, preview, batches, errors."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from clara_search.datasets.readers import read_examples
from clara_search.errors import ConfigError, OutputError, SourceError
from tests.helpers import tone
from tests.trainer.pretraining.conftest import recipe
from tests.trainer.pretraining.test_run import RATE
from trainer.__main__ import main
from trainer.config.captions import CaptionConfig
from trainer.config.recipe import to_toml
from trainer.data.dataset import PairDataset
from trainer.data.shards import write_shards
from trainer.pretraining.setup import Loaders, set_up
from trainer.pretraining.tokenizer import train_tokenizer


def test_an_empty_training_set_is_refused(folder: Path, tmp_path: Path) -> None:
    settings = recipe(folder)
    with pytest.raises(ConfigError, match="nothing to train on: name shards"):
        set_up(replace(settings, data=replace(settings.data, sources=())), tmp_path / "run")
    with pytest.raises(SourceError, match="do not fill a batch of 500"):
        Loaders(set_up(replace(settings, data=replace(settings.data, batch_size=500)), tmp_path / "run")).sampler()
    (tmp_path / "m.csv").write_text("path,text\nnone.wav,x\n")
    with pytest.raises(SourceError, match=r"no recording can be read; .*left-out\.txt says why"):
        set_up(replace(settings, data=replace(settings.data, sources=(str(tmp_path / "m.csv"),))), tmp_path / "run")


def test_a_dry_run_estimates_steps_and_memory(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(to_toml(recipe(folder)))
    arguments = ["pretrain", str(tmp_path / "r.toml"), "--out", str(tmp_path / "run"), "--dry-run"]
    result = CliRunner().invoke(main, [*arguments, "--set", "optim.epochs=7"])
    assert result.exit_code == 0, result.output
    estimate = {line[:34].strip(): line[34:] for line in result.output.splitlines() if len(line) > 34}
    assert estimate["steps in an epoch"] == "4"
    assert estimate["steps"] == "28"
    assert estimate["recordings, train"].startswith("64 (")
    assert estimate["activations of 16 pairs"].endswith("GiB (fp32, longest)")
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.slow
def test_training_pairs_can_be_previewed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = recipe(folder, captions=CaptionConfig(translations="sounds.csv", translation_probability=0.5))
    (tmp_path / "r.toml").write_text(to_toml(settings))
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "runs" / "tones" / "preview"
    arguments = ["preview", "r.toml", "-n", "5"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader((out / "captions.csv").open()))
    assert len(rows) == 5
    for row in rows:
        waveform, rate = soundfile.read(out / row["path"])
        assert rate == RATE
        assert len(waveform) > 100
        assert "tone" in row["original"]
    assert (out / "log-mels.png").read_bytes().startswith(b"\x89PNG")


def test_shards_hold_the_rows_of_the_manifest_and_are_never_written_twice(folder: Path, tmp_path: Path) -> None:
    manifest, out = str(folder / "tones.csv"), tmp_path / "shards"
    assert write_shards(manifest, out, per_shard=40, rate=8000) == (3, 2)
    examples = list(read_examples(out / "*.tar"))
    assert [e.text for e in examples] == [e.text for e in read_examples(manifest, lambda _: None)][:-1]
    assert {e.split for e in examples} == {"train", "valid", "test"}
    left_out = (out / "left-out.txt").read_text()
    assert "line 98 has no text" in left_out
    assert "098.wav" in left_out
    (out / "00001.tar").unlink()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    assert write_shards(manifest, out, per_shard=40, rate=8000) == (3, 2)
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())
    assert len(list(read_examples(out / "*.tar"))) == len(examples)
    with pytest.raises(OutputError, match="made with other settings"):
        write_shards(manifest, out, per_shard=40, rate=16000)


def test_a_recording_that_vanished_is_replaced_by_another_of_its_batch(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for number in range(3):
        soundfile.write(copy / f"{number}.wav", tone(300, 0.2, RATE), RATE)
        (copy / f"{number}.txt").write_text(f"tone {number}")
    settings = recipe(folder)
    settings = replace(settings, data=replace(settings.data, sources=(str(copy),), cache_decoded=False))
    from trainer.data.corpus import load_corpus

    corpus = load_corpus([str(copy)], RATE, tmp_path, cache_decoded=False)
    pairs = PairDataset(corpus, [0, 1, 2], settings, train_tokenizer(["tone"], 300, []), training=True)
    (copy / "1.wav").unlink()
    batch = pairs[0, [(0, 0), (1, 1), (2, 2)]]
    assert batch.indices.tolist() == [0, 2, 0]
    assert np.isfinite(batch.log_mels.numpy()).all()

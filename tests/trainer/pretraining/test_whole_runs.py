"""A run as a whole: stopped and gone on with, in chunks, by two processes, watched, told beforehand, listened to."""

import csv
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from clara_search.datasets.readers import read_examples
from clara_search.errors import ConfigError, OutputError, SourceError
from clara_search.models.clara.phone_head import PhoneHeadConfig
from tests.helpers import tone, write_tone
from tests.trainer.pretraining.test_run import EVERYTHING, RATE, RECIPE
from trainer.__main__ import main
from trainer.config.augmentation import AugmentConfig
from trainer.config.captions import CaptionConfig
from trainer.config.loss import LossConfig
from trainer.config.presets import PRESETS
from trainer.config.recipe import Recipe, load_recipe, to_toml
from trainer.config.sections import DataConfig, OptimConfig, RunConfig, TowersConfig
from trainer.data.dataset import PairDataset
from trainer.data.shards import write_shards
from trainer.pretraining.callbacks import Stopped
from trainer.pretraining.module import Pretraining, TrainingError
from trainer.pretraining.run import Loaders, prepare, pretrain
from trainer.pretraining.tokenizer import train_tokenizer
from trainer.runtime.checkpoints import newest_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 tones with declared sides and labels; one has no text, one is broken."""
    folder = tmp_path_factory.mktemp("tones")
    with (folder / "tones.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "text", "kind", "split", "label", "language", "text_language"])
        for number in range(96):
            name, side = f"{number:03}.wav", "valid" if number % 6 == 0 else "test" if number % 6 == 1 else "train"
            label = "low" if number < 48 else "high"
            write_tone(folder / name, 200 + 30 * number, duration_s=0.1 + 0.003 * number, sample_rate=RATE)
            kind = "speech" if number % 2 else "sound"
            rows.writerow([name, f"{label} tone {number}", kind, side, f"pitch:{label}", "en", "en"])
        rows.writerow(["097.wav", "", "sound", "train", "", "", ""])
        rows.writerow(["098.wav", "gone", "sound", "train", "", "", ""])
    return folder


def recipe(folder: Path, **changes: object) -> Recipe:
    data = DataConfig((str(folder / "tones.csv"),), batch_size=16, max_audio_s=1.0)
    base = replace(RECIPE, data=data, augment=EVERYTHING, optim=OptimConfig(epochs=3, warmup_steps=2))
    base = replace(base, model=replace(base.model, text=replace(base.model.text, dropout=0.1)))
    return replace(base, run=RunConfig(accelerator="cpu", checkpoint_steps=1), **changes)  # type: ignore[arg-type]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def run_slowly(settings: Recipe, run: Path) -> None:
    original = PairDataset.__getitem__

    def slowly(self: PairDataset, address: object) -> object:
        time.sleep(0.15)
        return original(self, address)  # type: ignore[arg-type]

    PairDataset.__getitem__ = slowly  # type: ignore[method-assign, assignment]
    pretrain(settings, run)


def test_a_killed_run_goes_on_to_the_same_weights(folder: Path, tmp_path: Path) -> None:
    settings = recipe(folder)
    pretrain(settings, tmp_path / "whole")
    worker = multiprocessing.get_context("spawn").Process(target=run_slowly, args=(settings, tmp_path / "killed"))
    worker.start()
    wanted = 5  # of 12 steps: inside the second epoch
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and worker.is_alive() and _steps(tmp_path / "killed") < wanted:
        time.sleep(0.05)
    assert worker.is_alive()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    assert wanted <= _steps(tmp_path / "killed") < 12
    pretrain(settings, tmp_path / "killed")
    expected, found = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def _steps(run: Path) -> int:
    found = newest_checkpoint(run / "checkpoints")
    return 0 if found is None else int(torch.load(found, weights_only=True)["global_step"])


def test_a_run_that_is_asked_to_stop_stores_where_it_stands(folder: Path, tmp_path: Path) -> None:
    settings, before = recipe(folder), signal.getsignal(signal.SIGINT)
    with pytest.raises(Stopped, match="stopped at step 1; the same command goes on"):
        pretrain(settings, tmp_path / "run", max_minutes=0)
    with pytest.raises(Stopped, match="stopped at step 2"):
        pretrain(settings, tmp_path / "run", max_minutes=0)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_checkpoint_that_a_full_disk_cut_short_is_passed_over(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        pretrain(recipe(folder), tmp_path / "run", max_minutes=0)
    checkpoints = tmp_path / "run" / "checkpoints"
    (checkpoints / "last.ckpt").write_bytes((checkpoints / "stopped.ckpt").read_bytes()[:1000])
    (checkpoints / "other.ckpt").write_bytes(b"")
    found = newest_checkpoint(checkpoints)
    assert found is not None
    assert found.name in ("stopped.ckpt", "step.ckpt")


def test_a_loss_that_is_no_number_names_step_batch_and_checkpoint(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = recipe(folder)
    with pytest.raises(Stopped):
        pretrain(settings, tmp_path / "run", max_minutes=0)
    original = PairDataset.__getitem__
    monkeypatch.setattr(
        PairDataset, "__getitem__", lambda *x: (b := original(*x))._replace(log_mels=b.log_mels * torch.nan)
    )
    with pytest.raises(TrainingError, match=r"loss of step 1 is nan; its batch: \d+\.wav, .*checkpoint is .*\.ckpt"):
        pretrain(settings, tmp_path / "run")


@pytest.mark.parametrize("kind", ["clara", "sigmoid"])
def test_chunks_have_the_gradients_of_the_whole_batch(folder: Path, tmp_path: Path, kind: str) -> None:
    gradients = []
    for chunk in (0, 5):
        settings = recipe(folder, loss=LossConfig(kind, chunk=chunk))  # type: ignore[arg-type]
        settings = replace(settings, model=replace(settings.model, text=replace(settings.model.text, dropout=0.0)))
        torch.manual_seed(0)
        ready = prepare(settings, tmp_path / "run")
        batch = next(iter(Loaders(ready).train_dataloader()))
        ready.module.log_dict = lambda *_, **__: None  # type: ignore[method-assign, assignment]
        ready.module.training_step(batch, 0).backward()  # type: ignore[no-untyped-call]
        gradients.append({name: p.grad for name, p in ready.module.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_learn_what_one_learns(folder: Path, tmp_path: Path) -> None:
    """`run.devices=2` under gloo, started by Lightning itself: the batch is shared, negatives and gradients are not."""
    settings = recipe(folder, augment=AugmentConfig(gain_db=0.0, noise_probability=0.0, mix_probability=0.0))
    # With a large epsilon Adam does not make much of what rounding makes of a gradient that is nearly zero.
    settings = replace(settings, optim=replace(settings.optim, epochs=1, eps=1e-2, lr=1e-2))
    settings = replace(settings, model=replace(settings.model, text=replace(settings.model.text, dropout=0.0)))
    (tmp_path / "r.toml").write_text(to_toml(settings))
    pretrain(settings, tmp_path / "1")
    command = [sys.executable, "-m", "trainer", "pretrain", str(tmp_path / "r.toml"), "--run", str(tmp_path / "2")]
    command += ["--set", "run.devices=2", "--set", "run.strategy=ddp"]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    one, two = weights(tmp_path / "1"), weights(tmp_path / "2")
    for name, expected in one.items():
        torch.testing.assert_close(
            two[name].float(), expected.float(), atol=1e-3, rtol=1e-3
        )  # stored in half precision
    rows = [list(csv.DictReader((tmp_path / run / "log.csv").open())) for run in ("1", "2")]
    for alone, shared in zip(*rows, strict=True):
        assert float(shared["train_loss"]) == pytest.approx(float(alone["train_loss"]), abs=1e-3)
        assert shared["text_to_audio_recall_at_10"] == alone["text_to_audio_recall_at_10"]


def test_a_locked_tower_stays_as_it_is_and_its_projection_learns(folder: Path, tmp_path: Path) -> None:
    settings = recipe(folder)
    first = pretrain(replace(settings, optim=replace(settings.optim, epochs=1)), tmp_path / "first")
    towers = replace(settings.towers, text=str(first), locked=("text",))
    pretrain(replace(settings, towers=towers, optim=replace(settings.optim, ema=0.5)), tmp_path / "second")
    before, after = weights(tmp_path / "first"), weights(tmp_path / "second")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any(name.startswith("text.") for name in changed)
    assert {"text_projection.weight", "audio_projection.weight"} <= changed


def test_locked_frames_stay_as_they_are_and_what_pools_them_learns() -> None:
    settings = Recipe("frames", model=PRESETS["clara-v2-tiny"], towers=TowersConfig(locked=("frames",)))
    settings = replace(settings, model=replace(settings.model, phone_head=PhoneHeadConfig()))
    learns = {name for name, parameter in Pretraining(settings).model.named_parameters() if parameter.requires_grad}
    assert not any(name.startswith(("audio.stem", "audio.frame_layers", "phone_head")) for name in learns)
    assert {"audio.latents", "audio.output.weight", "audio_projection.weight", "text.tokens.weight"} <= learns


def test_what_a_run_leaves_tells_how_it_was_made(folder: Path, tmp_path: Path) -> None:
    config = RunConfig("cpu", loggers=("tensorboard", "mlflow"), zero_shot=(str(folder / "tones.csv"),), patience=1)
    settings = replace(recipe(folder), run=config)
    pretrain(settings, tmp_path / "run")
    run = tmp_path / "run"
    (run / "again.toml").write_text((run / "recipe.toml").read_text())
    assert (run / "recipe.toml").read_text() == to_toml(settings)
    assert {"revision", "torch", "parameters"} <= json.loads((run / "run.json").read_text()).keys()
    logged = list(csv.DictReader((run / "log.csv").open()))[-1]
    assert 0 <= float(logged["data_wait_share"]) <= 1
    assert float(logged["pairs_per_second"]) > 0
    assert float(logged["zero_shot_tones_chance"]) == 0.5
    assert 0 <= float(logged["zero_shot_tones"]) <= 1
    assert list(run.glob("tensorboard/*/events*"))
    import mlflow

    (found,) = mlflow.MlflowClient(f"file:{run / 'mlruns'}").search_experiments(filter_string="name = 'tones'")
    assert found.name == "tones"
    (left_out,) = (tmp_path / "cache").glob("*/left-out.txt")
    assert [line.split(":")[0] for line in left_out.read_text().splitlines()] in (
        ["098.wav", str(folder / "tones.csv")],
        [str(folder / "tones.csv"), "098.wav"],
    )


def test_workers_make_the_batches_that_the_main_process_makes(folder: Path, tmp_path: Path) -> None:
    settings = recipe(folder)
    alone = list(Loaders(prepare(settings, tmp_path / "run")).train_dataloader())
    shared = replace(settings, data=replace(settings.data, workers=2))
    together = list(Loaders(prepare(shared, tmp_path / "run")).train_dataloader())
    for one, other in zip(alone, together, strict=True):
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=0)  # a worker has one thread, and sums in its order


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_tiny_learns_what_it_is_not_taught(tmp_path: Path) -> None:
    """The bundled recipe on fewer voices: phrases of the held-out texts are found."""
    pytest.importorskip("espeakng_loader")
    arguments = ["speak", "--texts", "tiny.txt", "--per-word", "2", "--out", str(tmp_path / "tiny.tar")]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    settings = load_recipe(Path("tiny.toml"), ("optim.epochs=12", "run.accelerator=cpu"))
    pretrain(replace(settings, data=replace(settings.data, sources=(str(tmp_path / "tiny.tar"),))), tmp_path / "run")
    rows = list(csv.DictReader((tmp_path / "run" / "log.csv").open()))
    last = {name: float(value) for name, value in rows[-1].items() if value}
    assert last["train_loss"] < 3.8  # a guess among 64 costs 4.16
    assert last["text_to_audio_recall_at_10"] > 1.4 * last["chance_recall_at_10"]
    assert last["text_to_audio_recall_at_1"] > 3 / 23  # three times chance


def test_nothing_to_train_on_is_said(folder: Path, tmp_path: Path) -> None:
    settings = recipe(folder)
    with pytest.raises(ConfigError, match="nothing to train on: name shards"):
        prepare(replace(settings, data=replace(settings.data, sources=())), tmp_path / "run")
    with pytest.raises(SourceError, match="do not fill a batch of 500"):
        Loaders(prepare(replace(settings, data=replace(settings.data, batch_size=500)), tmp_path / "run")).sampler()
    (tmp_path / "m.csv").write_text("path,text\nnone.wav,x\n")
    with pytest.raises(SourceError, match=r"no recording can be read; .*left-out\.txt says why"):
        prepare(replace(settings, data=replace(settings.data, sources=(str(tmp_path / "m.csv"),))), tmp_path / "run")


def test_a_dry_run_tells_what_a_run_will_take(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(to_toml(recipe(folder)))
    arguments = ["pretrain", str(tmp_path / "r.toml"), "--run", str(tmp_path / "run"), "--dry-run"]
    result = CliRunner().invoke(main, [*arguments, "--set", "optim.epochs=7"])
    assert result.exit_code == 0, result.output
    told = {line[:34].strip(): line[34:] for line in result.output.splitlines() if len(line) > 34}
    assert told["steps in an epoch"] == "4"
    assert told["steps"] == "28"
    assert told["recordings, train"].startswith("64 (")
    assert told["activations of 16 pairs"].endswith("GiB (fp32, longest)")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_what_is_trained_on_can_be_heard(folder: Path, tmp_path: Path) -> None:
    settings = recipe(folder, captions=CaptionConfig(translations="sounds.csv", translation_probability=0.5))
    (tmp_path / "r.toml").write_text(to_toml(settings))
    out = tmp_path / "heard"
    arguments = ["hear", str(tmp_path / "r.toml"), "--run", str(tmp_path / "run"), "--out", str(out), "-n", "5"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader((out / "captions.csv").open()))
    assert len(rows) == 5
    for row in rows:
        waveform, rate = soundfile.read(out / row["path"])
        assert rate == RATE
        assert len(waveform) > 100
        assert "tone" in row["original"]
    assert (out / "spectrograms.png").read_bytes().startswith(b"\x89PNG")


def test_shards_hold_what_the_manifest_names_and_are_never_written_twice(folder: Path, tmp_path: Path) -> None:
    manifest, out = str(folder / "tones.csv"), tmp_path / "shards"
    assert write_shards(manifest, out, per_shard=40, rate=8000) == (3, 2)
    examples = list(read_examples(out / "*.tar"))
    assert [e.text for e in examples] == [e.text for e in read_examples(manifest, lambda _: None)][:-1]
    assert {e.split for e in examples} == {"train", "valid", "test"}
    left_out = (out / "left-out.txt").read_text()
    assert "row 97 has no text" in left_out
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
    settings = replace(settings, data=replace(settings.data, sources=(str(copy),), decode=False))
    from trainer.data.corpus import load_corpus

    corpus = load_corpus([str(copy)], RATE, tmp_path, decode=False)
    pairs = PairDataset(corpus, [0, 1, 2], settings, train_tokenizer(["tone"], 300, []), training=True)
    (copy / "1.wav").unlink()
    batch = pairs[0, [(0, 0), (1, 1), (2, 2)]]
    assert batch.indices.tolist() == [0, 2, 0]
    assert np.isfinite(batch.log_mels.numpy()).all()

"""Whole runs: stopped and resumed, in chunks, by two processes, with frozen modules, tracked."""

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

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from clara_search.models.clara.phone_head import PhoneHeadConfig
from tests.trainer.pretraining.conftest import recipe
from trainer.__main__ import main
from trainer.config.augmentation import AugmentConfig
from trainer.config.loss import LossConfig
from trainer.config.presets import PRESETS
from trainer.config.recipe import Recipe, load_recipe, to_toml
from trainer.config.sections import InitConfig, OptimConfig, RunConfig
from trainer.data.dataset import PairDataset
from trainer.pretraining.callbacks import Stopped
from trainer.pretraining.module import Pretraining, TrainingError
from trainer.pretraining.run import pretrain
from trainer.pretraining.setup import Loaders, set_up
from trainer.runtime.checkpoints import newest_checkpoint

pytestmark = pytest.mark.slow


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def run_slowly(settings: Recipe, run: Path) -> None:
    original = PairDataset.__getitem__

    def slowly(self: PairDataset, address: object) -> object:
        time.sleep(0.15)
        return original(self, address)  # type: ignore[arg-type]

    PairDataset.__getitem__ = slowly  # type: ignore[method-assign, assignment]
    pretrain(settings, run)


def run_in_new_process(settings: Recipe, run: Path) -> None:
    """Train in a process where nothing else was loaded: other libraries may change how torch rounds."""
    worker = multiprocessing.get_context("spawn").Process(target=pretrain, args=(settings, run))
    worker.start()
    worker.join()
    assert worker.exitcode == 0


def test_a_killed_run_resumes_to_the_same_weights(folder: Path, tmp_path: Path) -> None:
    settings = recipe(folder)
    run_in_new_process(settings, tmp_path / "whole")
    worker = multiprocessing.get_context("spawn").Process(target=run_slowly, args=(settings, tmp_path / "killed"))
    worker.start()
    step_to_kill_at = 5  # of 12 steps: inside the second epoch
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and worker.is_alive() and _steps(tmp_path / "killed") < step_to_kill_at:
        time.sleep(0.05)
    assert worker.is_alive()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    assert step_to_kill_at <= _steps(tmp_path / "killed") < 12
    run_in_new_process(settings, tmp_path / "killed")
    expected, resumed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


def _steps(run: Path) -> int:
    loaded = newest_checkpoint(run / "checkpoints")
    return 0 if loaded is None else int(torch.load(loaded, weights_only=True)["global_step"])


def test_a_run_that_is_asked_to_stop_writes_a_checkpoint(folder: Path, tmp_path: Path) -> None:
    settings, before = recipe(folder), signal.getsignal(signal.SIGINT)
    with pytest.raises(Stopped, match="stopped at step 1; run the same command again to resume"):
        pretrain(settings, tmp_path / "run", max_minutes=0)
    with pytest.raises(Stopped, match="stopped at step 2"):
        pretrain(settings, tmp_path / "run", max_minutes=0)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_checkpoint_that_a_full_disk_cut_short_is_skipped(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        pretrain(recipe(folder), tmp_path / "run", max_minutes=0)
    checkpoints = tmp_path / "run" / "checkpoints"
    (checkpoints / "last.ckpt").write_bytes((checkpoints / "stopped.ckpt").read_bytes()[:1000])
    (checkpoints / "other.ckpt").write_bytes(b"")
    loaded = newest_checkpoint(checkpoints)
    assert loaded is not None
    assert loaded.name in ("stopped.ckpt", "step.ckpt")


def test_a_loss_that_is_not_finite_names_step_batch_and_checkpoint(
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
        settings = recipe(folder, loss=LossConfig(kind, gradcache_chunk=chunk))  # type: ignore[arg-type]
        settings = replace(settings, model=replace(settings.model, text=replace(settings.model.text, dropout=0.0)))
        torch.manual_seed(0)
        ready = set_up(settings, tmp_path / "run")
        batch = next(iter(Loaders(ready).train_dataloader()))
        ready.module.log_dict = lambda *_, **__: None  # type: ignore[method-assign, assignment]
        ready.module.training_step(batch, 0).backward()  # type: ignore[no-untyped-call]
        gradients.append({name: p.grad for name, p in ready.module.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, atol=1e-5, rtol=0)


@pytest.mark.timeout(900)
def test_two_processes_train_to_the_losses_of_one(folder: Path, tmp_path: Path) -> None:
    """`run.devices=2` under gloo, started by Lightning itself: the batch is shared, negatives and gradients are not."""
    settings = recipe(folder, augment=AugmentConfig(gain_db=0.0, noise_probability=0.0, mix_probability=0.0))
    # With a large epsilon Adam does not make much of what rounding makes of a gradient that is nearly zero.
    settings = replace(settings, optim=replace(settings.optim, epochs=1, eps=1e-2, lr=1e-2))
    settings = replace(settings, model=replace(settings.model, text=replace(settings.model.text, dropout=0.0)))
    (tmp_path / "r.toml").write_text(to_toml(settings))
    pretrain(settings, tmp_path / "1")
    command = [sys.executable, "-m", "trainer", "pretrain", str(tmp_path / "r.toml"), "--out", str(tmp_path / "2")]
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


def test_a_frozen_tower_stays_as_it_is_and_its_projection_learns(folder: Path, tmp_path: Path) -> None:
    settings = recipe(folder)
    first = pretrain(replace(settings, optim=replace(settings.optim, epochs=1)), tmp_path / "first")
    optim = replace(settings.optim, ema_decay=0.5, freeze=("text",))
    pretrain(replace(settings, init=InitConfig(str(first)), optim=optim), tmp_path / "second")
    before, after = weights(tmp_path / "first"), weights(tmp_path / "second")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any(name.startswith("text.") for name in changed)
    assert {"text_projection.weight", "audio_projection.weight"} <= changed


def test_frozen_frames_stay_as_they_are_and_their_pooling_learns() -> None:
    settings = Recipe("frames", model=PRESETS["clara-v2-tiny"], optim=OptimConfig(freeze=("frames",)))
    settings = replace(settings, model=replace(settings.model, phone_head=PhoneHeadConfig()))
    learns = {name for name, parameter in Pretraining(settings).model.named_parameters() if parameter.requires_grad}
    assert not any(name.startswith(("audio.stem", "audio.frame_layers", "phone_head")) for name in learns)
    assert {"audio.latents", "audio.output.weight", "audio_projection.weight", "text.tokens.weight"} <= learns


def test_the_folder_of_a_run_records_how_it_was_made(folder: Path, tmp_path: Path) -> None:
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

    (loaded,) = mlflow.MlflowClient(f"file:{run / 'mlruns'}").search_experiments(filter_string="name = 'tones'")
    assert loaded.name == "tones"
    (left_out,) = (tmp_path / "cache").glob("*/left-out.txt")
    lines = left_out.read_text().splitlines()
    assert len(lines) == 2
    assert any(line.startswith("098.wav: ") for line in lines)
    assert any(line.endswith("tones.csv, line 98 has no text") for line in lines)


def test_workers_make_the_batches_that_the_main_process_makes(folder: Path, tmp_path: Path) -> None:
    settings = recipe(folder)
    alone = list(Loaders(set_up(settings, tmp_path / "run")).train_dataloader())
    shared = replace(settings, data=replace(settings.data, workers=2))
    together = list(Loaders(set_up(shared, tmp_path / "run")).train_dataloader())
    for one, other in zip(alone, together, strict=True):
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=0)  # a worker has one thread, and sums in its order


@pytest.mark.first
@pytest.mark.timeout(900)
def test_tiny_finds_held_out_phrases(tmp_path: Path) -> None:
    """The bundled recipe on fewer voices: phrases of the held-out texts are loaded."""
    pytest.importorskip("espeakng_loader")
    arguments = ["synthesize", "--texts", "tiny.txt", "--per-word", "2", "--out", str(tmp_path / "tiny.tar")]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    settings = load_recipe(Path("tiny.toml"), ("optim.epochs=12", "run.accelerator=cpu"))
    pretrain(replace(settings, data=replace(settings.data, sources=(str(tmp_path / "tiny.tar"),))), tmp_path / "run")
    rows = list(csv.DictReader((tmp_path / "run" / "log.csv").open()))
    last = {name: float(value) for name, value in rows[-1].items() if value}
    assert last["train_loss"] < 3.8  # a guess among 64 costs 4.16
    assert last["text_to_audio_recall_at_10"] > 1.4 * last["chance_recall_at_10"]
    assert last["text_to_audio_recall_at_1"] > 3 / 23  # three times chance

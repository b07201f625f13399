"""Nothing that was trained is lost: checkpoints of every epoch, whole, in moved folders, on full disks."""

import csv
import logging
import os
import re
import resource
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from clara_search.errors import FormatError, OutputError
from trainer.config.recipe import Recipe
from trainer.data.dataset import PairDataset
from trainer.pretraining.callbacks import Stopped
from trainer.pretraining.run import MONITOR, pretrain
from trainer.runtime.checkpoints import AtomicCheckpointIO, newest_checkpoint, step_of

pytestmark = pytest.mark.slow


def with_(recipe: Recipe, **changes: Any) -> Recipe:
    """`recipe` with settings such as optim_epochs=2."""
    for name, value in changes.items():
        part, _, key = name.partition("_")
        recipe = replace(recipe, **{part: replace(getattr(recipe, part), **{key: value})})  # type: ignore[arg-type]
    return recipe


def test_every_epoch_is_stored_and_the_last_one_validated_and_a_finished_run_trains_no_further(
    small: Recipe, tmp_path: Path
) -> None:
    recipe = with_(small, optim_epochs=5, run_validate_epochs=3)
    pretrain(recipe, tmp_path / "run")
    last, best = (tmp_path / "run" / "checkpoints" / name for name in ("last.ckpt", "best.ckpt"))
    assert step_of(last) == 10
    assert step_of(best) in (6, 10)
    rows = list(csv.DictReader((tmp_path / "run" / "log.csv").open()))
    assert [bool(row[MONITOR]) for row in rows] == [False, False, True, False, True]
    before = last.stat().st_mtime_ns
    pretrain(recipe, tmp_path / "run")
    assert last.stat().st_mtime_ns == before
    pretrain(with_(small, optim_epochs=2, run_validate_epochs=9), tmp_path / "other")
    assert (tmp_path / "other" / "model" / "model.safetensors").exists()


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_epochs_of_one_step_are_stopped_after_each_and_resumed_to_the_same_weights(
    small: Recipe, tmp_path: Path, ema: float
) -> None:
    recipe = with_(small, data_batch_size=8, optim_epochs=3, optim_ema_decay=ema, run_patience=10)
    pretrain(recipe, tmp_path / "whole")
    for epoch in (1, 2):
        with pytest.raises(Stopped, match=f"stopped at step {epoch}") as stopped:
            pretrain(recipe, tmp_path / "parts", max_minutes=0)
        assert stopped.value.planned
        assert step_of(tmp_path / "parts" / "checkpoints" / "last.ckpt") == epoch
    pretrain(recipe, tmp_path / "parts", max_minutes=0)
    one, other = (load_file(tmp_path / run / "model" / "model.safetensors") for run in ("whole", "parts"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    logged = [list(csv.DictReader((tmp_path / run / "log.csv").open())) for run in ("whole", "parts")]
    for alone, gone_on in zip(*logged, strict=True):
        assert alone["train_loss"] == gone_on["train_loss"]
        assert alone[MONITOR] == gone_on[MONITOR]


def test_a_run_that_had_no_patience_left_stays_stopped(small: Recipe, tmp_path: Path) -> None:
    recipe = with_(small, optim_epochs=50, optim_lr=1e-9, run_patience=1)
    pretrain(recipe, tmp_path / "run")
    stored = step_of(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert stored == 4  # the first validation, and one that is not better
    pretrain(recipe, tmp_path / "run")
    assert step_of(tmp_path / "run" / "checkpoints" / "last.ckpt") == stored


def test_a_signal_in_the_only_step_of_an_epoch_is_heard(
    small: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = PairDataset.__getitem__

    def interrupted(self: PairDataset, address: Any) -> Any:
        if self.training and address[0] == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, address)

    monkeypatch.setattr(PairDataset, "__getitem__", interrupted)
    with pytest.raises(Stopped) as stopped:
        pretrain(with_(small, data_batch_size=8, optim_epochs=9), tmp_path / "run")
    assert not stopped.value.planned
    assert step_of(tmp_path / "run" / "checkpoints" / "last.ckpt") in (1, 2)  # the batch is fetched ahead


def test_a_moved_run_keeps_its_best(small: Recipe, tmp_path: Path) -> None:
    pretrain(small, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").glob("*.ckpt"):
        content = torch.load(path, weights_only=True)
        content["callbacks"]["Checkpoints"]["best"] = 2.0  # no score can be better
        torch.save(content, path)
    shutil.move(tmp_path / "run", tmp_path / "moved")
    best = tmp_path / "moved" / "checkpoints" / "best.ckpt"
    before = best.read_bytes()
    pretrain(with_(small, optim_epochs=3), tmp_path / "moved")
    assert best.read_bytes() == before
    assert step_of(best.with_name("last.ckpt")) == 6
    assert torch.load(best.with_name("last.ckpt"), weights_only=True)["callbacks"]["Checkpoints"]["best"] == 2.0


@pytest.mark.parametrize("content", [None, b"", b"PK\3\4 cut"])
def test_without_its_best_checkpoint_a_run_ends_with_the_newest(
    small: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes | None
) -> None:
    pretrain(small, tmp_path / "run")
    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    best.unlink()
    if content is not None:
        best.write_bytes(content)
    shutil.rmtree(tmp_path / "run" / "model")
    with caplog.at_level(logging.WARNING):
        pretrain(small, tmp_path / "run")
    assert (tmp_path / "run" / "model" / "README.md").exists()
    assert "the model is that of" in caplog.text


@pytest.mark.parametrize("content", [[1, 2], {"global_step": 3}, {"global_step": 3, "state_dict": {}}, b"nonsense"])
def test_unreadable_checkpoints_are_never_trained_over(small: Recipe, tmp_path: Path, content: object) -> None:
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    before = path.read_bytes()
    with pytest.raises(FormatError, match=r"none of last\.ckpt can be read; to start over"):
        pretrain(small, tmp_path / "run")
    assert path.read_bytes() == before


def test_a_full_disk_is_one_line_and_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    content = {"state_dict": {}, "global_step": 7, "epoch": 1, "loops": {}, "optimizer_states": []}
    AtomicCheckpointIO().save_checkpoint(content, path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(
            OutputError, match=rf"cannot be written .*; the last good checkpoint is {re.escape(str(path))}"
        ):
            AtomicCheckpointIO().save_checkpoint({**content, "state_dict": {"x": torch.zeros(100_000)}}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert newest_checkpoint(tmp_path) == path
    assert step_of(path) == 7
    assert list(tmp_path.iterdir()) == [path]

"""Checkpoints of a run: when and how they are written, and which one a run resumes from."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from clara_search.errors import FormatError, OutputError, SourceError, first_line
from clara_search.files.atomic import atomic_path
from clara_search.models.stored.pickled import read_checkpoint

log = logging.getLogger(__name__)

BEST, LAST, STEP, STOPPED = "best.ckpt", "last.ckpt", "step.ckpt", "stopped.ckpt"

_REQUIRED_KEYS = ("state_dict", "global_step", "epoch", "loops", "optimizer_states")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically: the old one is replaced when the new one is on disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint. Raises OutputError, naming the last good one, if it cannot be written."""
        try:
            with atomic_path(Path(path)) as partial:
                try:
                    with partial.open("wb") as file:
                        torch.save(checkpoint, file)
                except RuntimeError as error:  # torch's error for a full disk
                    raise OSError(first_line(error)) from error
        except OutputError as error:
            newest = newest_checkpoint(Path(path).parent)
            hint = f"the last good checkpoint is {newest}" if newest else "no checkpoint yet"
            raise OutputError(f"{error}; {hint}") from error


class Checkpoints(Checkpoint):
    """Writes `last.ckpt` after each epoch, `best.ckpt` by a metric, and `step.ckpt` every so often within an epoch.

    Args:
        folder: of the checkpoints.
        monitor: metric of which more is better.
        steps: interval of `step.ckpt`; 0 for none. After the last step of an epoch it is not written: Lightning cannot
            resume from there.
    """

    def __init__(self, folder: Path, monitor: str, steps: int = 0) -> None:
        self._folder, self._monitor, self._steps = folder, monitor, steps
        self._best, self._validated = float("-inf"), False

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Write `step.ckpt`."""
        if self._steps and trainer.global_step % self._steps == 0 and not trainer.is_last_batch:
            trainer.save_checkpoint(self._folder / STEP)

    def on_validation_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Remember that the metric is new."""
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Write `last.ckpt`, and `best.ckpt` if the metric has improved."""
        score = float(trainer.callback_metrics[self._monitor]) if self._validated else float("-inf")
        is_improvement = trainer.strategy.broadcast(score > self._best)
        self._validated = False
        if is_improvement:
            self._best = score
            trainer.save_checkpoint(self._folder / BEST)
        trainer.save_checkpoint(self._folder / LAST)

    def state_dict(self) -> dict[str, Any]:
        """Return the best score."""
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score, if its checkpoint exists."""
        if step_of(self._folder / BEST) is not None:
            self._best = state_dict["best"]


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint of the latest step in `folder`; unreadable ones are skipped with a warning."""
    steps = {path: step for path in folder.glob("*.ckpt") if (step := step_of(path)) is not None}
    # Among equal steps the last one written: only it records that the others were written.
    return max(sorted(steps), key=lambda path: (steps[path], path.stat().st_mtime_ns), default=None)


def resume_checkpoint(folder: Path) -> Path | None:
    """Return `newest_checkpoint`; None for a folder without checkpoints. Raises FormatError if all are broken."""
    newest = newest_checkpoint(folder)
    if newest is None and (broken := sorted(path.name for path in folder.glob("*.ckpt"))):
        raise FormatError(
            f"{folder}: none of {', '.join(broken)} can be read; to start over, delete them or choose another folder"
        )
    return newest


def best_checkpoint(folder: Path) -> Path:
    """Return the checkpoint of the best weights, or, with a warning, the newest if that one cannot be read."""
    if step_of(folder / BEST) is not None:
        return folder / BEST
    newest = resume_checkpoint(folder)
    if newest is None:
        raise SourceError(f"{folder}: no checkpoint was stored")
    log.warning("%s is missing or cannot be read: the model is that of %s", folder / BEST, newest)
    return newest


def step_of(path: Path) -> int | None:
    """Return the step of a checkpoint; None if it does not exist or, with a warning, cannot be read."""
    if not path.exists():
        return None
    try:
        content = read_checkpoint(path)
        if not isinstance(content, dict) or (missing := [name for name in _REQUIRED_KEYS if name not in content]):
            raise ValueError(f"it has no {missing[0]}" if isinstance(content, dict) else "it is not a dict")
        return int(content["global_step"])
    except Exception as error:  # a damaged file can raise nearly anything
        log.warning("cannot resume from %s: %s", path, first_line(error))
        return None

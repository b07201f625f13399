"""Checkpoints of a run: when they are written, how, and which of them to go on from."""

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

log = logging.getLogger(__name__)

BEST, LAST, STEP, STOPPED = "best.ckpt", "last.ckpt", "step.ckpt", "stopped.ckpt"

_NEEDED = ("state_dict", "global_step", "epoch", "loops", "optimizer_states")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside the one that it replaces, which goes only when the new one is on the disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write `checkpoint`. Raises OutputError, saying which of them is left, where it cannot be written."""
        try:
            with atomic_path(Path(path)) as partial:
                try:
                    with partial.open("wb") as file:
                        torch.save(checkpoint, file)
                except RuntimeError as error:  # how torch words a disk that is full
                    raise OSError(first_line(error)) from error
        except OutputError as error:
            kept = newest_checkpoint(Path(path).parent)
            raise OutputError(
                f"{error}; " + (f"the last good one is {kept}" if kept else "there is none yet")
            ) from error


class Checkpoints(Checkpoint):
    """Stores, in `folder`, each epoch as `last.ckpt`, the best by `monitor` as `best.ckpt`, and every `steps` a step.

    Behind the last step of an epoch Lightning cannot go on: that one is stored with its epoch.
    """

    def __init__(self, folder: Path, monitor: str, steps: int = 0) -> None:
        self._folder, self._monitor, self._steps = folder, monitor, steps
        self._best, self._validated = float("-inf"), False

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Store a step."""
        if self._steps and trainer.global_step % self._steps == 0 and not trainer.is_last_batch:
            trainer.save_checkpoint(self._folder / STEP)

    def on_validation_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Note that there is a new score."""
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Store the epoch."""
        score = float(trainer.callback_metrics[self._monitor]) if self._validated else float("-inf")
        better = trainer.strategy.broadcast(score > self._best)
        self._validated = False
        if better:
            self._best = score
            trainer.save_checkpoint(self._folder / BEST)
        trainer.save_checkpoint(self._folder / LAST)

    def state_dict(self) -> dict[str, Any]:
        """Return the best score."""
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the best score, if its checkpoint is there."""
        if step_of(self._folder / BEST) is not None:
            self._best = state_dict["best"]


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint of the latest step in `folder`; one that cannot be read is passed over with a warning."""
    steps = {path: step for path in folder.glob("*.ckpt") if (step := step_of(path)) is not None}
    # Of equals, the one that was stored last: it knows as much as the others and of them.
    return max(sorted(steps), key=lambda path: (steps[path], path.stat().st_mtime_ns), default=None)


def resume_checkpoint(folder: Path) -> Path | None:
    """Return `newest_checkpoint`, or None without any. Raises FormatError if none of them is whole."""
    found = newest_checkpoint(folder)
    if found is None and (broken := sorted(path.name for path in folder.glob("*.ckpt"))):
        raise FormatError(
            f"{folder}: none of {', '.join(broken)} can be read; to begin anew, move them away or take another `run`"
        )
    return found


def best_checkpoint(folder: Path) -> Path:
    """Return the checkpoint of the best weights, or the newest with a warning where that one cannot be read."""
    if step_of(folder / BEST) is not None:
        return folder / BEST
    found = resume_checkpoint(folder)
    if found is None:
        raise SourceError(f"{folder}: no checkpoint was stored")
    log.warning("%s is not there, or cannot be read: the model is that of %s", folder / BEST, found)
    return found


def step_of(path: Path) -> int | None:
    """Return after how many steps the checkpoint `path` was stored; None, with a warning, where it cannot be read."""
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if not isinstance(content, dict) or (missing := [name for name in _NEEDED if name not in content]):
            raise ValueError(f"it has no {missing[0]}" if isinstance(content, dict) else "it is no table")
        return int(content["global_step"])
    except Exception as error:  # a damaged file can raise nearly anything
        log.warning("%s is no checkpoint to go on from: %s", path, first_line(error))
        return None

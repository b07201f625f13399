"""A training run: from a recipe and recordings to a model folder with its card, scores and curves."""

from __future__ import annotations

import json
import logging
import platform
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging, LearningRateMonitor, TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger, Logger

from clara_search.files.atomic import atomic_write_text
from clara_search.models.clara.checkpoint import save_model
from clara_search.models.clara.encoder import ClaraEncoder
from clara_search.models.folder import CARD_FILE
from clara_search.models.stored.pickled import read_checkpoint
from trainer.config.recipe import Recipe
from trainer.evaluation.model_card import model_card
from trainer.evaluation.report import evaluate
from trainer.evaluation.training_curves import draw_training_curves
from trainer.pretraining.callbacks import EarlyStop, GracefulStop, LastValidation, ThroughputTimer, zero_shot_callbacks
from trainer.pretraining.module import Pretraining, TrainingError
from trainer.pretraining.setup import Loaders, RunSetup, set_up
from trainer.runtime.checkpoints import STOPPED, Checkpoints, best_checkpoint, newest_checkpoint, resume_checkpoint
from trainer.runtime.folder import run_lock
from trainer.runtime.lightning import new_trainer, one_line_errors
from trainer.runtime.log_table import read_log, write_table
from trainer.runtime.tracking import new_loggers

log = logging.getLogger(__name__)

MONITOR = "text_to_audio_map_at_10"
"""The validation metric by which the best weights are chosen."""


def pretrain(recipe: Recipe, run: Path, max_minutes: float | None = None) -> Path:
    """Train a model, or resume its training, and score it.

    A stopped run resumes from its last checkpoint and ends in the same weights as an uninterrupted one. The exported
    weights are those with the best mAP@10 on validation texts.

    Args:
        recipe: of the run.
        run: folder of the run.
        max_minutes: minutes after which training stops with a checkpoint; None for no limit.

    Returns:
        The model folder, in `run`.

    Raises:
        ConfigError: settings contradict each other, ask for hardware that is missing, or differ from those that the
            run was started with.
        OutputError: another process trains in `run`.
        SourceError: there is nothing to train on.
        Stopped: the time is over, or a signal asked to stop.
        TrainingError: the loss is not finite.
    """
    check_machine(recipe)
    with run_lock(run):
        pl.seed_everything(recipe.seed, verbose=False)
        setup = set_up(recipe, run)
        trainer = _fit(setup, run, max_minutes)
        folder = run / "model"
        if trainer.is_global_zero:
            _export(setup, run, folder)
        trainer.strategy.barrier()
        return folder


def _fit(setup: RunSetup, run: Path, max_minutes: float | None) -> pl.Trainer:
    """Train, or resume training, and leave the module with its best weights, in evaluation mode."""
    recipe, config, module = setup.recipe, setup.recipe.run, setup.module
    module.total_steps = len(Loaders(setup).sampler()) * recipe.optim.epochs
    checkpoints = run / "checkpoints"
    graceful_stop = GracefulStop(checkpoints / STOPPED, max_minutes)
    callbacks: list[Callback] = [
        LearningRateMonitor("epoch"),
        TQDMProgressBar(refresh_rate=20),
        ThroughputTimer(),
        *zero_shot_callbacks(recipe, setup.tokenizer, run.parent / "cache"),
        LastValidation(config.validate_epochs),
        *([EarlyStop(MONITOR, config.patience)] if config.patience else []),
        graceful_stop,
        *([EMAWeightAveraging(decay=recipe.optim.ema_decay)] if recipe.optim.ema_decay else []),
        Checkpoints(checkpoints, MONITOR, config.checkpoint_steps),
    ]
    trainer = new_trainer(recipe, callbacks, _loggers(recipe, run))
    if trainer.is_global_zero:
        atomic_write_text(run / "run.json", json.dumps(_environment(module), indent=1) + "\n")
    if config.compile:
        module.compile()
    resume_from = resume_checkpoint(checkpoints)
    try:
        trainer.fit(module, datamodule=Loaders(setup), ckpt_path=resume_from, weights_only=True)
    except TrainingError as error:
        newest = newest_checkpoint(checkpoints)
        hint = f"the last good checkpoint is {newest}" if newest else "no checkpoint yet"
        raise TrainingError(f"{error}; {hint}") from error
    except OSError as error:
        raise TrainingError(f"{run}: {error}") from error
    if graceful_stop.stopped:
        raise graceful_stop.stopped
    best = trainer.strategy.broadcast(best_checkpoint(checkpoints))
    module.load_state_dict(read_checkpoint(best)["state_dict"])
    module.eval()
    return trainer


def check_machine(recipe: Recipe) -> None:
    """Raise ConfigError if this machine lacks a device, a precision or a logger that `[run]` asks for."""
    with tempfile.TemporaryDirectory() as scratch:
        new_trainer(recipe, loggers=_loggers(recipe, Path(scratch)))


def _loggers(recipe: Recipe, run: Path) -> list[Logger]:
    with one_line_errors("run.loggers"):
        return [CSVLogger(run, name="log"), *new_loggers(recipe.name, recipe.run.loggers, recipe.run.tracking_uri, run)]


def _environment(module: Pretraining) -> dict[str, Any]:
    """Return the circumstances of a run: revision of the code, versions, machine, number of parameters."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        revision = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        revision = None
    return {
        "revision": revision,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": version("pytorch-lightning"),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in module.model.parameters()),
    }


def _export(setup: RunSetup, run: Path, folder: Path) -> None:
    """Write the model folder, the log as a table and a plot, the scores and the model card."""
    recipe, corpus, splits, module = setup.recipe, setup.corpus, setup.splits, setup.module
    module.loss.store_logit_scales(module.model)
    save_model(folder, module.model, setup.tokenizer, card="")
    rows = read_log(run / "log")
    write_table(rows, run / "log.csv")
    draw_training_curves(rows, run / "curves.png")
    report = evaluate(ClaraEncoder(folder), corpus, splits, recipe)
    atomic_write_text(run / "scores.json", json.dumps(report.as_dict(), indent=1) + "\n")
    parameters = sum(p.numel() for p in module.model.parameters())
    atomic_write_text(folder / CARD_FILE, model_card(recipe, corpus, splits, report, parameters))
    if scores := report.retrieval.get("all", {}).get("text_to_audio"):
        chance = scores.chance_recall[10]
        log.info("R@10 %.3f (chance %.3f), mAP@10 %.3f of held-out texts", scores.recall[10], chance, scores.map10)

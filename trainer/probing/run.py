"""A run of a probe, and its folder: the head, the report, the log and pictures."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clara_search.classification.head_files import ENCODER_FOLDER, save_head
from clara_search.errors import DatabaseError, OutputError
from clara_search.files import confined
from clara_search.files.atomic import atomic_write_text
from clara_search.files.redact import without_credentials
from clara_search.models.clara.checkpoint import MODEL_FILES
from clara_search.models.training_sources import training_sources
from trainer.embeddings.cache import describe_encoder
from trainer.probing.experiment import (
    Fitter,
    ProbeConfig,
    cross_validate,
    fit_frozen,
    head_shape,
    load_labelled_set,
)
from trainer.probing.report import build_report
from trainer.runtime.folder import run_lock
from trainer.runtime.log_table import write_table

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

    from trainer.probing.finetune import Finetuner

log = logging.getLogger(__name__)

FIRST_EPOCH = "before the first epoch: "
"""Precedes, in the log, the seconds that reading the labels and vectors took."""


def probe(config: ProbeConfig, run: Path, cache: Path) -> dict[str, Any]:
    """Run a probe.

    Args:
        config: the data, the model and the settings.
        run: folder to write the head, the report, the log and pictures to.
        cache: folder of the vectors that were computed before.

    Returns:
        The report, as in report.json.

    Raises:
        SourceError: the data cannot be read or divided.
        ConfigError: the settings do not fit the data or the model.
        OutputError: the folder cannot be written, or another process runs in it.
        UnknownModel: no such model.
    """
    with run_lock(run):
        return _probe(config, run, cache)


def _probe(config: ProbeConfig, run: Path, cache: Path) -> dict[str, Any]:
    stopwatch = Stopwatch()
    fitter, finetuner = _choose_fitter(config)
    model = describe_encoder(config.model, config.precision, config.device)
    labelled = load_labelled_set(config, model, cache)
    stopwatch.lap("vectors")
    counts = len(labelled.clips), labelled.embeddings.num_computed, labelled.plan.kind
    log.info(f"%d clips, %d vectors computed now, %s; {FIRST_EPOCH}%.2f s", *counts, stopwatch.seconds["vectors"])
    model_name = str(Path(config.model).resolve()) if Path(config.model).is_dir() else config.model
    shape = head_shape(config, labelled.columns, model.dim, model_name, model.fingerprint.partition("-")[0])
    trackers = Trackers(config, run)
    try:
        result = cross_validate(config, labelled, shape, trackers.log_epoch, fitter)
    except BaseException:
        trackers.fail()
        raise
    stopwatch.lap("fitting and test")
    report = {
        "model": {"name": model.name, "fingerprint": shape.model.fingerprint},
        "settings": _settings(config),
        **build_report(labelled, result, training_sources(config.model)),
        "vectors_computed": labelled.embeddings.num_computed,
        "seconds": stopwatch.seconds,
    }
    try:
        run.mkdir(parents=True, exist_ok=True)
        encoder_folder = run / "head" / ENCODER_FOLDER
        _remove_encoder(run, encoder_folder)
        if finetuner is not None:
            fingerprint = finetuner.save_encoder(result.head, encoder_folder)
            fine_tuned = dataclasses.replace(result.head.config.model, fingerprint=fingerprint)
            result.head.config = dataclasses.replace(result.head.config, model=fine_tuned)
        save_head(run / "head", result.head)
        _write(run, report, result.history)
    except OSError as error:
        raise OutputError(f"{run}: cannot be written ({error.strerror or error})") from error
    trackers.finish(report)
    return report


def _settings(config: ProbeConfig) -> dict[str, Any]:
    """Return the settings for reports and trackers: the URL of a server without its credentials."""
    return {**dataclasses.asdict(config), "tracking_uri": without_credentials(config.tracking_uri)}


class Stopwatch:
    """Durations of the parts of a run, in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Add the time since the last lap to `name`."""
        now = time.perf_counter()
        self.seconds[name] = round(self.seconds.get(name, 0.0) + now - self._last, 3)
        self._last = now


def _choose_fitter(config: ProbeConfig) -> tuple[Fitter, Finetuner | None]:
    """Return the fitter of a head for a fold, and the fine-tuner if it trains the encoder too."""
    fitter: Fitter = fit_frozen
    finetuner: Finetuner | None = None
    if config.unfreeze != "none":
        from trainer.probing.finetune import Finetuner

        fitter = finetuner = Finetuner(config)
    if config.trials:
        from trainer.probing.search import search_settings

        fitter = search_settings(fitter, config.trials)
    return fitter, finetuner


class Trackers:
    """The experiment trackers of a run, which get the rows of its log and the scores."""

    def __init__(self, config: ProbeConfig, run: Path) -> None:
        self._loggers: list[Logger] = []
        self._step = 0
        if config.loggers:
            from trainer.runtime.lightning import one_line_errors
            from trainer.runtime.tracking import new_loggers

            experiment = f"probe-{'-'.join(config.labels)}"
            with one_line_errors(f"loggers {', '.join(config.loggers)}"):
                self._loggers = new_loggers(experiment, config.loggers, config.tracking_uri, run)
                for logger in self._loggers:
                    logger.log_hyperparams(_settings(config))

    def log_epoch(self, row: Mapping[str, float]) -> None:
        """Log the row of an epoch, or of a setting that was tried."""
        for logger in self._loggers:
            logger.log_metrics(dict(row), self._step)
        self._step += 1

    def finish(self, report: Mapping[str, Any]) -> None:
        """Log the scores as test_COLUMN_MEASURE, and end the run."""
        for logger in self._loggers:
            for column, facts in report["labels"].items():
                scores = {f"test_{_slug(column)}_{key}": score["value"] for key, score in facts["scores"].items()}
                logger.log_metrics(scores, self._step)
            logger.finalize("success")

    def fail(self) -> None:
        """End the run as a failed one."""
        for logger in self._loggers:
            logger.finalize("failed")


def _remove_encoder(run: Path, folder: Path) -> None:
    """Remove the encoder of an earlier run. Raises OutputError if the folder holds other files too."""
    if not folder.exists():
        return
    try:
        others = confined.delete_files(run, folder, re.compile("|".join(map(re.escape, MODEL_FILES))))
        if not others:
            confined.remove_folder(run, folder)
    except DatabaseError as error:
        raise OutputError(str(error)) from error
    if others:
        raise OutputError(f"{folder}: holds more than the encoder of an earlier run: move it away")


def _write(run: Path, report: Mapping[str, Any], history: list[dict[str, float]]) -> None:
    from trainer.evaluation.plots import draw_confusion, draw_curves

    for stale in run.glob("confusion-*.png"):  # of an earlier run in the same folder, with other labels
        stale.unlink()
    atomic_write_text(run / "report.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    atomic_write_text(run / "left-out.txt", "".join(f"{line}\n" for line in report["left_out"]))
    write_table(history, run / "log.csv")
    draw_curves(history, run / "curves.png")
    for column, facts in report["labels"].items():
        if "confusion" in facts:
            title = f"{column}: {facts['n']} clips, {report['fold_kind']}"
            draw_confusion(facts["confusion"], facts["classes"], title, run / f"confusion-{_slug(column)}.png")


def _slug(column: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in column)

"""A probe's folder: the head, its scores, its log and its pictures."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clara_search.classification.head import ENCODER_FOLDER, save_head
from clara_search.errors import DatabaseError, OutputError
from clara_search.files import confined
from clara_search.files.atomic import atomic_write_text
from clara_search.models.clara.checkpoint import MODEL_FILES
from clara_search.models.training_sources import training_sources
from trainer.embeddings.cache import describe_encoder
from trainer.probing.experiment import Fitter, ProbeConfig, fit_frozen, gather, head_shape, run_probe
from trainer.probing.report import build_report
from trainer.runtime.folder import run_lock
from trainer.runtime.log_table import write_table

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

    from trainer.probing.finetune import Finetuner

log = logging.getLogger(__name__)

FIRST_EPOCH = "before the first epoch: "
"""What is logged once vectors and labels are there, with the seconds that it took."""


def probe(config: ProbeConfig, run: Path, cache: Path) -> dict[str, Any]:
    """Run a probe and return its report, which the folder `run` gets with the head, a log and pictures.

    Raises FormatError for data or settings that cannot be probed and for a folder that another process runs in, and
    whatever `load_encoder` raises.
    """
    with run_lock(run):
        return _probe(config, run, cache)


def _probe(config: ProbeConfig, run: Path, cache: Path) -> dict[str, Any]:
    watch = Stopwatch()
    fitter, tuned = _fitter(config)
    model = describe_encoder(config.model, config.precision)
    labelled = gather(config, model, cache)
    watch.lap("vectors")
    told = len(labelled.clips), labelled.vectors.num_computed, labelled.division.kind, watch.seconds["vectors"]
    log.info(f"%d clips, %d vectors computed now, %s; {FIRST_EPOCH}%.2f s", *told)
    name = str(Path(config.model).resolve()) if Path(config.model).is_dir() else config.model
    shape = head_shape(config, labelled.tasks, model.dim, name, model.fingerprint.partition("-")[0])
    tracked = Tracked(config, run)
    try:
        outcome = run_probe(config, labelled, shape, tracked.report, fitter)
    except BaseException:
        tracked.give_up()
        raise
    watch.lap("fitting and test")
    facts = {
        "model": {"name": model.name, "fingerprint": shape.fingerprint},
        "settings": dataclasses.asdict(config),
        **build_report(labelled, outcome, training_sources(config.model)),
        "vectors_computed": labelled.vectors.num_computed,
        "seconds": watch.seconds,
    }
    try:
        run.mkdir(parents=True, exist_ok=True)
        own = run / "head" / ENCODER_FOLDER
        _remove_encoder(run, own)
        if tuned is not None:
            fingerprint = tuned.save_encoder(outcome.head, own)
            outcome.head.config = dataclasses.replace(outcome.head.config, fingerprint=fingerprint)
        save_head(run / "head", outcome.head)
        _write(run, facts, outcome.history)
    except OSError as error:
        raise OutputError(f"{run}: cannot be written ({error.strerror or error})") from error
    tracked.finish(facts)
    return facts


class Stopwatch:
    """How long the parts of a run take, in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, name: str) -> None:
        """What went by since the last lap was `name`."""
        now = time.perf_counter()
        self.seconds[name] = round(self.seconds.get(name, 0.0) + now - self._since, 3)
        self._since = now


def _fitter(config: ProbeConfig) -> tuple[Fitter, Finetuner | None]:
    """Return what fits a fold, and what has a trained encoder, where one is trained."""
    fitter: Fitter = fit_frozen
    tuned: Finetuner | None = None
    if config.unfreeze != "none":
        from trainer.probing.finetune import Finetuner

        fitter = tuned = Finetuner(config)
    if config.trials:
        from trainer.probing.search import search_settings

        fitter = search_settings(fitter, config.trials)
    return fitter, tuned


class Tracked:
    """Hands the rows of the log, and at last the scores, to the trackers that were asked for."""

    def __init__(self, config: ProbeConfig, run: Path) -> None:
        self._trackers: list[Logger] = []
        self._step = 0
        if config.loggers:
            from trainer.runtime.lightning import one_line_errors
            from trainer.runtime.tracking import loggers

            experiment = f"probe-{'-'.join(config.labels)}"
            with one_line_errors(f"loggers {', '.join(config.loggers)}"):
                self._trackers = loggers(experiment, config.loggers, config.tracking_uri, run)
                for one in self._trackers:
                    one.log_hyperparams(dataclasses.asdict(config))

    def report(self, row: Mapping[str, float]) -> None:
        """Track an epoch, or a step of a sweep."""
        for one in self._trackers:
            one.log_metrics(dict(row), self._step)
        self._step += 1

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Track the scores, as test_COLUMN_MEASURE, and end the run."""
        for one in self._trackers:
            for column, found in facts["labels"].items():
                name = "".join(letter if letter.isalnum() else "-" for letter in column)
                one.log_metrics(
                    {f"test_{name}_{key}": score["value"] for key, score in found["scores"].items()}, self._step
                )
            one.finalize("success")

    def give_up(self) -> None:
        """End the run as one that failed."""
        for one in self._trackers:
            one.finalize("failed")


def _remove_encoder(run: Path, folder: Path) -> None:
    """Remove the encoder of an earlier run in the same folder. Raises OutputError where anything else lies there."""
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


def _write(run: Path, facts: Mapping[str, Any], history: list[dict[str, float]]) -> None:
    from trainer.evaluation.plots import draw_confusion, draw_curves

    for stale in run.glob("confusion-*.png"):  # of an earlier run in the same folder, with other labels
        stale.unlink()
    atomic_write_text(run / "report.json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    atomic_write_text(run / "left-out.txt", "".join(f"{line}\n" for line in facts["left_out"]))
    write_table(history, run / "log.csv")
    draw_curves(history, run / "curves.png")
    for column, one in facts["labels"].items():
        if "confusion" in one:
            title = f"{column}: {one['n']} clips, {facts['division']}"
            name = "".join(letter if letter.isalnum() else "-" for letter in column)
            draw_confusion(one["confusion"], one["classes"], title, run / f"confusion-{name}.png")

"""A probe: a head over a model's vectors, fitted to labels and tested on clips that it was not fitted to."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clara_search.audio.windows import DEFAULT_HOP_S, DEFAULT_WINDOW_S
from clara_search.classification.head import MIN_HOP_S, Head, HeadConfig
from clara_search.datasets.labelled import Clip, check_column, read_clips
from clara_search.datasets.manifests import ManifestColumns
from clara_search.errors import ClaraError, SourceError
from clara_search.models.recorded import RecordedModel
from clara_search.models.registry import DEFAULT_MODEL
from trainer.embeddings.cache import ClipEmbeddings, EncoderSpec, embed_clips
from trainer.probing.fit import Examples, fit, resolve_monitor
from trainer.probing.folds import Fold, FoldPlan, make_folds
from trainer.probing.sgd import UNKNOWN, FitConfig, History, OnEpoch
from trainer.probing.targets import TargetColumns, build_targets, labels_of

log = logging.getLogger(__name__)

_MAX_LOGGED_PROBLEMS = 5
"""Unreadable rows that are logged one by one; the others are counted."""


@dataclass(frozen=True)
class ProbeConfig:
    """The data, model and settings of a probe.

    Attributes:
        data: a manifest, or a glob of manifests, shards or folders.
        labels: columns of labels; the heads of several columns share a trunk.
        model: name, folder or hub id.
        precision: of the model's computation.
        device: such as "cpu" or "cuda:1"; None for the first GPU, or else the CPU.
        fit: how the head is fitted.
        unfreeze: parts of the encoder to train too: "none", "last:N" layers, "lora:RANK", "all".
        trials: settings to try for each fold's head; 0 takes those of `fit`.
        multi_label: whether a clip may have several labels of a column.
        folds: number of folds to make if the data declares neither splits nor folds.
        min_clips: a label of fewer clips is left out.
        window_s: seconds of a window; a longer recording has the mean of its windows' vectors.
        hop_s: seconds from the start of a window to that of the next.
        loggers: trackers beside the folder's own log: "tensorboard", "mlflow", "wandb".
        tracking_uri: of the MLflow server or file store; "" for the run's folder.
        path_column: the column of manifests that names or holds the recordings; "": recognise it.
        text_column: the column of manifests that holds the texts; "": recognise it.
        columns: columns of manifests to rename, their old names by their new ones.
    """

    data: str
    labels: tuple[str, ...]
    model: str = DEFAULT_MODEL
    precision: Literal["fp32", "bf16", "int8"] = "fp32"
    device: str | None = None
    fit: FitConfig = field(default_factory=FitConfig)
    unfreeze: str = "none"
    trials: int = 0
    multi_label: bool = False
    folds: int = 5
    min_clips: int = 2
    window_s: float = DEFAULT_WINDOW_S
    hop_s: float = DEFAULT_HOP_S
    loggers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()
    tracking_uri: str = ""
    path_column: str = ""
    text_column: str = ""
    columns: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.labels or len(set(self.labels)) < len(self.labels):
            raise ValueError("labels must name at least one column, and none twice")
        if self.folds < 2 or self.min_clips < 1 or self.trials < 0:
            raise ValueError("folds must be at least 2, min_clips at least 1, and trials not negative")
        if self.fit.head == "knn" and self.fit.balance != "none":
            raise ValueError("a knn head cannot be balanced: its neighbours vote as they are")
        if self.multi_label and self.fit.balance == "sampling":
            raise ValueError("clips with several labels cannot be balanced by sampling: take balance = weights")
        if not MIN_HOP_S <= self.hop_s <= self.window_s < math.inf:
            raise ValueError(f"hop_s must be at least {MIN_HOP_S:g} and no longer than window_s")


@dataclass(frozen=True)
class LabelledSet:
    """The usable clips of a probe.

    Attributes:
        clips: n clips.
        embeddings: their vectors, and the problems of the clips that were left out.
        columns: their labels as class numbers.
        plan: their folds.
    """

    clips: list[Clip]
    embeddings: ClipEmbeddings
    columns: TargetColumns
    plan: FoldPlan

    def examples(self, indices: Sequence[int]) -> Examples:
        """Return the vectors and targets of some clips."""
        text = None if self.embeddings.text is None else torch.from_numpy(self.embeddings.text)
        return Examples(torch.from_numpy(self.embeddings.audio), text, self.columns.targets).subset(indices)


Probabilities = dict[str, npt.NDArray[np.float32]]
"""By label column, shape (n, labels)."""


@dataclass(frozen=True)
class FoldPredictions:
    """The probabilities that a fold's head gives the clips of its test split, in their order."""

    fold: Fold
    probabilities: Probabilities


@dataclass(frozen=True)
class ProbeResult:
    """The head of a probe, the log of its fitting, and the predictions of each fold's head."""

    head: Head
    history: History
    tests: list[FoldPredictions]


Predictor = Callable[[Sequence[int]], Probabilities]
"""Returns the probabilities of the clips at some indices."""

Fitter = Callable[[FitConfig, HeadConfig, LabelledSet, Fold, OnEpoch], tuple[Head, History, Predictor]]
"""Fits a head to a fold; returns the head, the log of its fitting, and its predictor."""


def load_labelled_set(config: ProbeConfig, model: EncoderSpec, cache: Path) -> LabelledSet:
    """Read, embed and divide the labelled clips of `config.data`, logging the rows that cannot be read.

    Args:
        config: of the probe.
        model: the encoder.
        cache: folder of the vectors that were computed before.

    Returns:
        The usable clips.

    Raises:
        SourceError: a label column is missing, a split is empty, or no clip can be used.
        ConfigError: a column has too few labels.
    """
    problems: list[ClaraError] = []
    columns = ManifestColumns(config.path_column or None, config.text_column or None, config.columns)
    clips = read_clips(config.data, problems.append, columns)
    for problem in problems[:_MAX_LOGGED_PROBLEMS]:
        log.warning("left out: %s", problem)
    if len(problems) > _MAX_LOGGED_PROBLEMS:
        log.warning("and %d more rows", len(problems) - _MAX_LOGGED_PROBLEMS)
    return build_labelled_set(config, clips, model, cache)


def build_labelled_set(config: ProbeConfig, clips: Sequence[Clip], model: EncoderSpec, cache: Path) -> LabelledSet:
    """Embed and divide `clips`, as `load_labelled_set` does with those that it reads."""
    for column in config.labels:
        check_column(clips, column, config.data)
    usable = [clip for clip in clips if any(labels_of(clip, column, config.multi_label) for column in config.labels)]
    with_texts = config.fit.inputs != "audio"
    if with_texts:
        check_column(usable, "text", config.data)
    embeddings = embed_clips(usable, model, cache, with_texts, config.window_s, config.hop_s)
    if not embeddings.indices:
        raise SourceError(f"{config.data}: no clip can be used ({embeddings.problems[0]})")
    embedded = [usable[index] for index in embeddings.indices]
    columns = build_targets(embedded, config.labels, config.multi_label, config.min_clips, config.data)
    return _make_labelled_set(embedded, embeddings, columns, config)


def _make_labelled_set(
    clips: list[Clip], embeddings: ClipEmbeddings, columns: TargetColumns, config: ProbeConfig
) -> LabelledSet:
    """Drop the clips whose labels are all too rare, and divide the others."""
    rows = np.flatnonzero(columns.is_labelled())
    clips = [clips[row] for row in rows]
    embeddings = replace(
        embeddings,
        indices=[embeddings.indices[row] for row in rows],
        hashes=[embeddings.hashes[row] for row in rows],
        audio=embeddings.audio[rows],
        text=None if embeddings.text is None else embeddings.text[rows],
    )
    columns = replace(columns, targets=[target[rows] for target in columns.targets])
    plan = make_folds(clips, embeddings.hashes, config.folds, config.data)
    for fold in plan.folds:
        for column, target in zip(columns.classes, columns.targets, strict=True):
            _check_train_labels(column, target[fold.train], fold, config)
    return LabelledSet(clips, embeddings, columns, plan)


def _check_train_labels(column: str, target: Tensor, fold: Fold, config: ProbeConfig) -> None:
    count = int(target.any(dim=0).sum()) if target.ndim == 2 else len(set(target[target != UNKNOWN].tolist()))
    if count < (1 if config.multi_label else 2):
        raise SourceError(
            f"{config.data}: of column {column!r} fewer than two labels are trained on where {fold.name} is tested"
        )


def head_shape(config: ProbeConfig, columns: TargetColumns, dim: int, model: str, fingerprint: str) -> HeadConfig:
    """Return the configuration of a probe's head.

    Args:
        config: of the probe.
        columns: the classes.
        dim: length of the encoder's vectors.
        model: name or folder of the encoder.
        fingerprint: of the encoder.
    """
    kind = "linear" if config.fit.head == "logistic" else config.fit.head
    return HeadConfig(
        kind,
        config.fit.inputs,
        columns.classes,
        dim,
        RecordedModel(model, fingerprint),
        config.multi_label,
        config.fit.hidden,
        config.fit.dropout,
        window_s=config.window_s,
        hop_s=config.hop_s,
    )


def fit_frozen(
    config: FitConfig, shape: HeadConfig, labelled: LabelledSet, fold: Fold, on_epoch: OnEpoch
) -> tuple[Head, History, Predictor]:
    """Fit a head to the vectors of a fold, as a `Fitter`; the encoder stays as it is."""
    head, history = fit(config, shape, labelled.examples(fold.train), labelled.examples(fold.valid), on_epoch)

    def predict(indices: Sequence[int]) -> Probabilities:
        rows, text = list(indices), labelled.embeddings.text
        return head.probabilities(labelled.embeddings.audio[rows], None if text is None else text[rows])

    return head, history, predict


def cross_validate(
    config: ProbeConfig,
    labelled: LabelledSet,
    shape: HeadConfig,
    on_epoch: OnEpoch,
    fitter: Fitter = fit_frozen,
    final_head: bool = True,
) -> ProbeResult:
    """Fit and test a head for each fold.

    Args:
        config: of the probe.
        labelled: the clips and their folds.
        shape: of the heads.
        on_epoch: called with the row of each epoch.
        fitter: fits a head to a fold.
        final_head: whether, of several folds, a head is fitted to all of them at the end, with the test split of the
            last fold as its validation split; the scores are those of the folds' heads.

    Returns:
        The final head (or that of the last fold), the log of its fitting, and each fold's predictions.
    """
    settings = resolve_monitor(config.fit, config.multi_label)
    tests: list[FoldPredictions] = []
    folds = labelled.plan.folds
    for fold in folds:
        head, history, predict = fitter(settings, shape, labelled, fold, on_epoch)
        tests.append(FoldPredictions(fold, predict(fold.test)))
        log.info("%s: tested on %d clips", fold.name, len(fold.test))
    if len(folds) > 1 and final_head:
        last = folds[-1]
        all_folds = Fold("all", sorted({*last.train, *last.valid}), last.test, [])
        head, history, _ = fitter(settings, shape, labelled, all_folds, on_epoch)
    return ProbeResult(head, history, tests)

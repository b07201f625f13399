"""A probe: what a head over a model's vectors learns of labels, tested on what neither was fitted or tuned on."""

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
from clara_search.errors import ClaraError, SourceError
from clara_search.models.registry import DEFAULT_MODEL
from trainer.embeddings.cache import ClipEmbeddings, EncoderSpec, embed_clips
from trainer.probing.fit import Examples, fit, monitored
from trainer.probing.folds import Fold, FoldPlan, make_folds
from trainer.probing.sgd import UNKNOWN, FitConfig, History, OnEpoch
from trainer.probing.targets import TargetColumns, build_targets, labels_of

log = logging.getLogger(__name__)

_TOLD = 5
"""Of rows that cannot be read so many are told one by one."""


@dataclass(frozen=True)
class ProbeConfig:
    """What is probed, and how.

    Attributes:
        data: a manifest, or a glob of manifests, shards or folders.
        labels: columns to be told; several share the head's trunk.
        model: name, folder or hub id.
        precision: what the model computes in.
        fit: how the head is fitted.
        unfreeze: what of the encoder is trained too: "none", "last:N" layers, "lora:RANK", "all".
        trials: settings to try before each fold's head is fitted; 0 takes those of `fit`.
        multi_label: whether a clip may have several labels of a column at once.
        folds: how many are made where the data declares neither splits nor folds.
        least: a label that fewer clips have is left out.
        window_s: seconds of a window; a longer recording has the mean of its windows' vectors.
        hop_s: seconds from window to window.
        loggers: where it is tracked beside its folder: "tensorboard", "mlflow", "wandb".
        tracking_uri: of the MLflow server or file store; "" is the folder of the run.
    """

    data: str
    labels: tuple[str, ...]
    model: str = DEFAULT_MODEL
    precision: Literal["fp32", "bf16", "int8"] = "fp32"
    fit: FitConfig = field(default_factory=FitConfig)
    unfreeze: str = "none"
    trials: int = 0
    multi_label: bool = False
    folds: int = 5
    least: int = 2
    window_s: float = DEFAULT_WINDOW_S
    hop_s: float = DEFAULT_HOP_S
    loggers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()
    tracking_uri: str = ""

    def __post_init__(self) -> None:
        if not self.labels or len(set(self.labels)) < len(self.labels):
            raise ValueError("labels names at least one column, and none twice")
        if self.folds < 2 or self.least < 1 or self.trials < 0:
            raise ValueError("folds must be at least 2, least at least 1, and trials not negative")
        if self.fit.head == "knn" and self.fit.balance != "none":
            raise ValueError("a knn head cannot be balanced: its neighbours vote as they are")
        if self.multi_label and self.fit.balance == "sampling":
            raise ValueError("of clips with several labels none can be drawn so that all count alike: take weights")
        if not MIN_HOP_S <= self.hop_s <= self.window_s < math.inf:
            raise ValueError(f"hop_s must be at least {MIN_HOP_S:g} and no longer than window_s")


@dataclass(frozen=True)
class LabelledSet:
    """The clips of a probe that can be used, with vectors and targets, and what is to be said of the others."""

    clips: list[Clip]
    vectors: ClipEmbeddings
    tasks: TargetColumns
    division: FoldPlan

    def examples(self, positions: Sequence[int]) -> Examples:
        """Return vectors and targets of some clips."""
        text = None if self.vectors.text is None else torch.from_numpy(self.vectors.text)
        return Examples(torch.from_numpy(self.vectors.audio), text, self.tasks.targets).at(positions)


@dataclass(frozen=True)
class TestedFold:
    """What one fold's head says of its test side: positions, and for each column probabilities (n, labels)."""

    fold: Fold
    probabilities: dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Outcome:
    """A probe that was run: the head to keep, how its fitting went, and every fold's answers."""

    head: Head
    history: History
    tested: list[TestedFold]


Probabilities = dict[str, npt.NDArray[np.float32]]
"""By column, shape (n, labels)."""

Predictor = Callable[[Sequence[int]], Probabilities]
"""What gives the probabilities of some clips."""

Fitter = Callable[[FitConfig, HeadConfig, LabelledSet, Fold, OnEpoch], tuple[Head, History, Predictor]]
"""What fits a head to a fold: gives it, how it came about, and what names clips by it."""


def gather(config: ProbeConfig, model: EncoderSpec, cache: Path) -> LabelledSet:
    """Read, embed and divide the labelled clips.

    Raises FormatError for a label column that is not there, one that leaves nothing to tell apart, and a split that is
    empty.
    """
    problems: list[ClaraError] = []
    clips = read_clips(config.data, problems.append)
    for problem in problems[:_TOLD]:
        log.warning("left out: %s", problem)
    if len(problems) > _TOLD:
        log.warning("and %d more rows", len(problems) - _TOLD)
    return assemble(config, clips, model, cache)


def assemble(config: ProbeConfig, found: Sequence[Clip], model: EncoderSpec, cache: Path) -> LabelledSet:
    """Embed and divide `found`, as `gather` does."""
    for column in config.labels:
        check_column(found, column, config.data)
    clips = [clip for clip in found if any(labels_of(clip, column, config.multi_label) for column in config.labels)]
    texts = config.fit.inputs != "audio"
    if texts:
        check_column(clips, "text", config.data)
    vectors = embed_clips(clips, model, cache, texts, config.window_s, config.hop_s)
    if not vectors.indices:
        raise SourceError(f"{config.data}: no clip can be used ({vectors.problems[0]})")
    clips = [clips[index] for index in vectors.indices]
    tasks = build_targets(clips, config.labels, config.multi_label, config.least, config.data)
    return _divided(clips, vectors, tasks, config)


def _divided(clips: list[Clip], vectors: ClipEmbeddings, tasks: TargetColumns, config: ProbeConfig) -> LabelledSet:
    """Drop what has no label that is kept, and divide the rest."""
    known = np.flatnonzero(tasks.known())
    clips = [clips[index] for index in known]
    vectors = replace(
        vectors,
        indices=[vectors.indices[index] for index in known],
        hashes=[vectors.hashes[index] for index in known],
        audio=vectors.audio[known],
        text=None if vectors.text is None else vectors.text[known],
    )
    tasks = replace(tasks, targets=[target[known] for target in tasks.targets])
    division = make_folds(clips, vectors.hashes, config.folds, config.data)
    for fold in division.folds:
        for column, target in zip(tasks.classes, tasks.targets, strict=True):
            _check_trained(column, target[fold.train], fold, config)
    return LabelledSet(clips, vectors, tasks, division)


def _check_trained(column: str, target: Tensor, fold: Fold, config: ProbeConfig) -> None:
    trained = int(target.any(dim=0).sum()) if target.ndim == 2 else len(set(target[target != UNKNOWN].tolist()))
    if trained < (1 if config.multi_label else 2):
        raise SourceError(
            f"{config.data}: of column {column!r} fewer than two labels are trained on where {fold.name} is tested"
        )


def head_shape(config: ProbeConfig, tasks: TargetColumns, dim: int, model: str, fingerprint: str) -> HeadConfig:
    """Return the shape of the head that `config` asks for."""
    kind = "linear" if config.fit.head == "logistic" else config.fit.head
    return HeadConfig(
        kind,
        config.fit.inputs,
        tasks.classes,
        dim,
        model,
        fingerprint,
        config.multi_label,
        config.fit.hidden,
        config.fit.dropout,
        window_s=config.window_s,
        hop_s=config.hop_s,
    )


def fit_frozen(
    config: FitConfig, shape: HeadConfig, labelled: LabelledSet, fold: Fold, report: OnEpoch
) -> tuple[Head, History, Predictor]:
    """Fit a head to the vectors as they are."""
    head, history = fit(config, shape, labelled.examples(fold.train), labelled.examples(fold.valid), report)

    def name(positions: Sequence[int]) -> Probabilities:
        text = labelled.vectors.text
        chosen = list(positions)
        return head.probabilities(labelled.vectors.audio[chosen], None if text is None else text[chosen])

    return head, history, name


def run_probe(
    config: ProbeConfig,
    labelled: LabelledSet,
    shape: HeadConfig,
    report: OnEpoch,
    fitter: Fitter = fit_frozen,
    keep: bool = True,
) -> Outcome:
    """Fit and test a head for each fold; the head to keep is that of the only fold, or one fitted to all of them.

    (Of several folds the last one is what that head is tuned on: its score is that of the folds' heads.) Without `keep`
    it is that of the last fold, which costs no further fitting.
    """
    settings = monitored(config.fit, config.multi_label)
    tested: list[TestedFold] = []
    folds = labelled.division.folds
    for fold in folds:
        head, history, name = fitter(settings, shape, labelled, fold, report)
        tested.append(TestedFold(fold, name(fold.test)))
        log.info("%s: tested on %d clips", fold.name, len(fold.test))
    if len(folds) > 1 and keep:
        last = folds[-1]
        kept = Fold("all", sorted({*last.train, *last.valid}), last.test, [])
        head, history, _ = fitter(settings, shape, labelled, kept, report)
    return Outcome(head, history, tested)

"""Fitting of a head to fixed vectors: by gradient descent, logistic regression or nearest neighbours."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clara_search.classification.calibration import fit_temperature
from clara_search.classification.head import Dense, Head, HeadConfig, Neighbours, head_input
from clara_search.metrics.classification import SINGLE_LABEL_METRICS
from trainer.probing.sgd import (
    UNKNOWN,
    FitConfig,
    History,
    OnEpoch,
    class_weights,
    is_improvement,
    measure_logits,
    parameter_groups,
    prefix_keys,
    sample_batches,
    total_loss,
    train_head,
)
from trainer.runtime.threads import torch_threads

PENALTIES = tuple(10.0**power for power in range(-6, 2))
"""Weights of the squared norm, beside the mean loss, that logistic regression tries."""

NEIGHBOURS = (1, 3, 5, 9, 17, 33, 65)
"""Numbers of neighbours that are tried."""

_SINGLE_THREAD_VALUES = 20_000_000
"""Size of the training vectors below which one thread is faster: threads of a busy machine wait for each other."""


@dataclass(frozen=True)
class Examples:
    """Vectors and targets of n clips.

    Attributes:
        audio: (n, dim).
        text: (n, dim), if texts are used.
        targets: for each task class numbers (n,), UNKNOWN for no label, or (n, labels) of 0 and 1.
    """

    audio: Tensor
    text: Tensor | None
    targets: list[Tensor]

    def __len__(self) -> int:
        return len(self.audio)

    def subset(self, indices: Sequence[int] | Tensor) -> Examples:
        """Return the examples at `indices`."""
        rows = torch.as_tensor(indices, dtype=torch.long)
        text = None if self.text is None else self.text[rows]
        return Examples(self.audio[rows], text, [target[rows] for target in self.targets])

    def stream(self, name: str) -> Tensor:
        """Return the input of a head's part: "audio", "text" or "both", shape (n, width)."""
        return head_input(name, self.audio, self.text)


def fit(
    config: FitConfig, shape: HeadConfig, train: Examples, valid: Examples, on_epoch: OnEpoch
) -> tuple[Head, History]:
    """Fit a head.

    Args:
        config: how it is fitted.
        shape: of the head.
        train: examples to fit it to.
        valid: examples to choose the epoch, the penalty or the number of neighbours by.
        on_epoch: called with the row of each epoch.

    Returns:
        The head in evaluation mode, and the log of its fitting.
    """
    width = train.stream(shape.streams[0]).shape[1]
    with torch_threads(1 if len(train) * width < _SINGLE_THREAD_VALUES else torch.get_num_threads()):
        return _fit(config, shape, train, valid, on_epoch)


def _fit(
    config: FitConfig, shape: HeadConfig, train: Examples, valid: Examples, on_epoch: OnEpoch
) -> tuple[Head, History]:
    torch.manual_seed(config.seed)
    history: History = []

    def note(row: dict[str, float]) -> None:
        history.append(row)
        on_epoch(row)

    if config.head == "knn":
        shape = replace(shape, num_examples=len(train))
    head = Head(shape).eval()
    for number, stream in enumerate(shape.streams):
        part = head.parts[number]
        if isinstance(part, Neighbours):
            _fit_knn(part, stream, config, shape, train, valid, note)
        elif isinstance(part, Dense):
            part.standardise(train.stream(stream))
            if config.head == "logistic":
                _fit_logistic(part, stream, config, shape, train, valid, note)
            else:
                _fit_sgd(part, stream, config, shape, train, valid, note)
    if shape.inputs == "late":
        _fit_mix(head, config, valid)
    calibrate(head, valid)
    return head, history


def _fit_sgd(
    part: Dense, stream: str, config: FitConfig, shape: HeadConfig, train: Examples, valid: Examples, on_epoch: OnEpoch
) -> None:
    train_vectors, valid_vectors = train.stream(stream), valid.stream(stream)
    weights = class_weights(train.targets, shape) if config.balance == "weights" else [None] * len(shape.tasks)

    def step(batch: Tensor) -> Tensor:
        part.train()
        targets = [target[batch] for target in train.targets]
        return total_loss(part(train_vectors[batch]), targets, weights, shape.multi_label)

    def validate() -> dict[str, float]:
        part.eval()
        with torch.inference_mode():
            return measure_logits(part(valid_vectors), valid.targets, shape.multi_label)

    def batches(epoch: int) -> Iterator[Tensor]:
        return sample_batches(len(train), config, train.targets, shape, epoch)

    train_head(parameter_groups(part, config), part, step, validate, batches, config, on_epoch)
    part.eval()


def _fit_logistic(
    part: Dense, stream: str, config: FitConfig, shape: HeadConfig, train: Examples, valid: Examples, on_epoch: OnEpoch
) -> None:
    """Fit a logistic regression for each of PENALTIES, the largest first; keep the one that is best on `valid`."""
    train_vectors, valid_vectors = train.stream(stream), valid.stream(stream)
    weights = class_weights(train.targets, shape) if config.balance != "none" else [None] * len(shape.tasks)
    for parameter in part.parameters():
        nn.init.zeros_(parameter)
    matrices = [p for p in part.parameters() if p.ndim > 1]
    best_row: dict[str, float] | None = None
    best_state = copy.deepcopy(part.state_dict())
    for number, penalty in enumerate(sorted(PENALTIES, reverse=True)):
        optimiser = torch.optim.LBFGS(part.parameters(), max_iter=100, history_size=10, line_search_fn="strong_wolfe")

        def closure(optimiser: torch.optim.LBFGS = optimiser, penalty: float = penalty) -> float:
            optimiser.zero_grad()
            loss = total_loss(part(train_vectors), train.targets, weights, shape.multi_label)
            loss = loss + 0.5 * penalty * sum((p.square().sum() for p in matrices), torch.zeros(()))
            loss.backward()  # type: ignore[no-untyped-call]
            return float(loss.detach())

        optimiser.step(closure)  # type: ignore[no-untyped-call]
        with torch.inference_mode():
            row = measure_logits(part(valid_vectors), valid.targets, shape.multi_label)
            train_loss = total_loss(part(train_vectors), train.targets, [None] * len(shape.tasks), shape.multi_label)
        on_epoch({"epoch": float(number), "lambda": penalty, "train_loss": float(train_loss), **prefix_keys(row)})
        if is_improvement(row, best_row, config.monitor):
            best_row, best_state = row, copy.deepcopy(part.state_dict())
    part.load_state_dict(best_state)


def _fit_knn(
    part: Neighbours,
    stream: str,
    config: FitConfig,
    shape: HeadConfig,
    train: Examples,
    valid: Examples,
    on_epoch: OnEpoch,
) -> None:
    """Store the training vectors, and choose the number of neighbours on `valid`."""
    part.vectors = train.stream(stream).clone()
    for task, (target, labels) in enumerate(zip(train.targets, shape.tasks.values(), strict=True)):
        if not shape.multi_label:
            target = F.one_hot(target.clamp_min(0), len(labels)) * (target != UNKNOWN)[:, None]
        setattr(part, f"targets_{task}", target.float())
    best_row: dict[str, float] | None = None
    best_count = 1
    for count in (count for count in NEIGHBOURS if count <= len(train)):
        part.count = torch.tensor(count)
        with torch.inference_mode():
            row = measure_logits(part(valid.stream(stream)), valid.targets, shape.multi_label)
        on_epoch({"epoch": float(count), **prefix_keys(row)})
        if is_improvement(row, best_row, config.monitor):
            best_row, best_count = row, count
    part.count = torch.tensor(best_count)


def _fit_mix(head: Head, config: FitConfig, valid: Examples) -> None:
    """Choose the weights of the heads over recordings and over texts on `valid`."""
    best_row: dict[str, float] | None = None
    best_weight = 0.5
    for weight in np.linspace(0.0, 1.0, 21):
        head.mix = torch.tensor([weight, 1.0 - weight], dtype=torch.float32)
        with torch.inference_mode():
            row = measure_logits(head(valid.audio, valid.text), valid.targets, head.config.multi_label)
        if is_improvement(row, best_row, config.monitor):
            best_row, best_weight = row, float(weight)
    head.mix = torch.tensor([best_weight, 1.0 - best_weight])


def calibrate(head: Head, valid: Examples) -> None:
    """Fit the temperature of each task on `valid`, which changes no ranking; not with several labels a clip."""
    if head.config.multi_label:
        return
    with torch.inference_mode():
        logits = head(valid.audio, valid.text)
    for task, (task_logits, target) in enumerate(zip(logits, valid.targets, strict=True)):
        known = target != UNKNOWN
        if bool(known.any()):
            head.temperatures[task] = fit_temperature(task_logits[known].numpy(), target[known].numpy())


def resolve_monitor(config: FitConfig, multi_label: bool) -> FitConfig:
    """Return `config` with mAP in place of a single-label measure where a clip may have several labels."""
    return replace(config, monitor="map") if multi_label and config.monitor in SINGLE_LABEL_METRICS else config

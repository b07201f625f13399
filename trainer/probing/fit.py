"""How a head is fitted: to vectors that stay as they are, tuned on the validation side, by gradient or by search."""

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
from clara_search.metrics.classification import SINGLE
from trainer.probing.sgd import (
    UNKNOWN,
    FitConfig,
    History,
    OnEpoch,
    class_weights,
    is_improvement,
    loss_of,
    parameter_groups,
    prefix_keys,
    quality,
    sample_batches,
    train_head,
)
from trainer.runtime.threads import torch_threads

LAMBDAS = tuple(10.0**power for power in range(-6, 2))
"""Weights of the squared norm beside the mean loss, that the logistic regression sweeps."""

NEIGHBOURS = (1, 3, 5, 9, 17, 33, 65)
"""How many neighbours are tried."""

_SMALL = 20_000_000
"""Numbers to train on below which one thread is faster: on a busy machine several wait for each other, minutes long."""


@dataclass(frozen=True)
class Examples:
    """Vectors and, for each task, targets: class numbers (n,), UNKNOWN where there is none, or (n, labels) of 0, 1."""

    audio: Tensor
    text: Tensor | None
    targets: list[Tensor]

    def __len__(self) -> int:
        return len(self.audio)

    def at(self, positions: Sequence[int] | Tensor) -> Examples:
        """Return some of them."""
        chosen = torch.as_tensor(positions, dtype=torch.long)
        text = None if self.text is None else self.text[chosen]
        return Examples(self.audio[chosen], text, [target[chosen] for target in self.targets])

    def stream(self, name: str) -> Tensor:
        """Return what a part of a head takes."""
        return head_input(name, self.audio, self.text)


def fit(
    config: FitConfig, shape: HeadConfig, train: Examples, valid: Examples, report: OnEpoch
) -> tuple[Head, History]:
    """Return the head of `shape` that does best on `valid`, in evaluation mode, and how it came about."""
    width = train.stream(shape.streams[0]).shape[1]
    with torch_threads(1 if len(train) * width < _SMALL else torch.get_num_threads()):
        return _fit(config, shape, train, valid, report)


def _fit(
    config: FitConfig, shape: HeadConfig, train: Examples, valid: Examples, report: OnEpoch
) -> tuple[Head, History]:
    torch.manual_seed(config.seed)
    history: History = []

    def note(row: dict[str, float]) -> None:
        history.append(row)
        report(row)

    if config.head == "knn":
        shape = replace(shape, examples=len(train))
    head = Head(shape).eval()
    for place, stream in enumerate(shape.streams):
        part = head.parts[place]
        if isinstance(part, Neighbours):
            _remember(part, stream, config, shape, train, valid, note)
        elif isinstance(part, Dense):
            part.standardise(train.stream(stream))
            if config.head == "logistic":
                _sweep(part, stream, config, shape, train, valid, note)
            else:
                _descend(part, stream, config, shape, train, valid, note)
    if shape.inputs == "late":
        _mix(head, config, valid)
    calibrate(head, valid)
    return head, history


def _descend(
    part: Dense, stream: str, config: FitConfig, shape: HeadConfig, train: Examples, valid: Examples, report: OnEpoch
) -> None:
    seen, held = train.stream(stream), valid.stream(stream)
    weights = class_weights(train.targets, shape) if config.balance == "weights" else [None] * len(shape.tasks)

    def step(batch: Tensor) -> Tensor:
        part.train()
        targets = [target[batch] for target in train.targets]
        return loss_of(part(seen[batch]), targets, weights, shape.multi_label)

    def validate() -> dict[str, float]:
        part.eval()
        with torch.inference_mode():
            return quality(part(held), valid.targets, shape.multi_label)

    def batches(epoch: int) -> Iterator[Tensor]:
        return sample_batches(len(train), config, train.targets, shape, epoch)

    train_head(parameter_groups(part, config), part, step, validate, batches, config, report)
    part.eval()


def _sweep(
    part: Dense, stream: str, config: FitConfig, shape: HeadConfig, train: Examples, valid: Examples, report: OnEpoch
) -> None:
    """Fit a logistic regression for each of LAMBDAS, the largest first, and keep the one that does best on `valid`."""
    seen, held = train.stream(stream), valid.stream(stream)
    weights = class_weights(train.targets, shape) if config.balance != "none" else [None] * len(shape.tasks)
    for parameter in part.parameters():
        nn.init.zeros_(parameter)
    matrices = [p for p in part.parameters() if p.ndim > 1]
    best: dict[str, float] | None = None
    kept = copy.deepcopy(part.state_dict())
    for place, penalty in enumerate(sorted(LAMBDAS, reverse=True)):
        optimiser = torch.optim.LBFGS(part.parameters(), max_iter=100, history_size=10, line_search_fn="strong_wolfe")

        def closure(optimiser: torch.optim.LBFGS = optimiser, penalty: float = penalty) -> float:
            optimiser.zero_grad()
            loss = loss_of(part(seen), train.targets, weights, shape.multi_label)
            loss = loss + 0.5 * penalty * sum((p.square().sum() for p in matrices), torch.zeros(()))
            loss.backward()  # type: ignore[no-untyped-call]
            return float(loss.detach())

        optimiser.step(closure)  # type: ignore[no-untyped-call]
        with torch.inference_mode():
            row = quality(part(held), valid.targets, shape.multi_label)
            trained = loss_of(part(seen), train.targets, [None] * len(shape.tasks), shape.multi_label)
        report({"epoch": float(place), "lambda": penalty, "train_loss": float(trained), **prefix_keys(row)})
        if is_improvement(row, best, config.monitor):
            best, kept = row, copy.deepcopy(part.state_dict())
    part.load_state_dict(kept)


def _remember(
    part: Neighbours,
    stream: str,
    config: FitConfig,
    shape: HeadConfig,
    train: Examples,
    valid: Examples,
    report: OnEpoch,
) -> None:
    """Keep the training vectors, and choose on `valid` how many neighbours vote."""
    part.vectors = train.stream(stream).clone()
    for task, (target, labels) in enumerate(zip(train.targets, shape.tasks.values(), strict=True)):
        if not shape.multi_label:
            target = F.one_hot(target.clamp_min(0), len(labels)) * (target != UNKNOWN)[:, None]
        setattr(part, f"targets_{task}", target.float())
    best: dict[str, float] | None = None
    chosen = 1
    for count in (count for count in NEIGHBOURS if count <= len(train)):
        part.count = torch.tensor(count)
        with torch.inference_mode():
            row = quality(part(valid.stream(stream)), valid.targets, shape.multi_label)
        report({"epoch": float(count), **prefix_keys(row)})
        if is_improvement(row, best, config.monitor):
            best, chosen = row, count
    part.count = torch.tensor(chosen)


def _mix(head: Head, config: FitConfig, valid: Examples) -> None:
    """Choose on `valid` how much the head over recordings counts beside the one over texts."""
    best: dict[str, float] | None = None
    chosen = 0.5
    for share in np.linspace(0.0, 1.0, 21):
        head.mix = torch.tensor([share, 1.0 - share], dtype=torch.float32)
        with torch.inference_mode():
            row = quality(head(valid.audio, valid.text), valid.targets, head.config.multi_label)
        if is_improvement(row, best, config.monitor):
            best, chosen = row, float(share)
    head.mix = torch.tensor([chosen, 1.0 - chosen])


def calibrate(head: Head, valid: Examples) -> None:
    """Fit the temperature of each task on `valid`, which leaves every ranking as it is."""
    if head.config.multi_label:
        return
    with torch.inference_mode():
        logits = head(valid.audio, valid.text)
    for task, (one, target) in enumerate(zip(logits, valid.targets, strict=True)):
        known = target != UNKNOWN
        if bool(known.any()):
            head.temperatures[task] = fit_temperature(one[known].numpy(), target[known].numpy())


def monitored(config: FitConfig, multi_label: bool) -> FitConfig:
    """Return `config` with a measure that there is: of several labels a clip that is mAP."""
    return replace(config, monitor="map") if multi_label and config.monitor in SINGLE else config

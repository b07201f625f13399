"""Training of a head by stochastic gradient descent: settings, losses, batches and early stopping."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clara_search.classification.head import HeadConfig
from clara_search.metrics.classification import single_label_metrics, weighted_average_precision

History = list[dict[str, float]]
"""A row for each epoch, or for each setting that was tried."""

OnEpoch = Callable[[dict[str, float]], None]
"""Called with the row of each epoch."""

UNKNOWN = -1
"""Target of a clip without a label of a task, which does not count there."""


@dataclass(frozen=True)
class FitConfig:
    """How a head is fitted.

    Attributes:
        head: "linear" and "mlp" by AdamW with early stopping, "logistic" by L-BFGS for several penalties, "knn".
        inputs: as in `HeadConfig`.
        lr: learning rate of the head.
        encoder_lr: learning rate of the encoder's unfrozen weights.
        weight_decay: of the head's matrices.
        batch_size: clips in a step.
        epochs: maximum number.
        patience: epochs without an improvement on the validation split after which training stops.
        hidden: widths of the MLP's hidden layers.
        dropout: of the MLP.
        balance: "weights" of the loss or "sampling", which give all classes the same weight; or "none".
        monitor: measure on the validation split that chooses the epoch, penalty, number of neighbours and mixture.
        seed: of all random numbers.
    """

    head: Literal["linear", "mlp", "knn", "logistic"] = "linear"
    inputs: Literal["audio", "text", "both", "late"] = "audio"
    lr: float = 1e-3
    encoder_lr: float = 1e-4
    weight_decay: float = 0.01
    batch_size: int = 128
    epochs: int = 100
    patience: int = 10
    hidden: tuple[int, ...] = (512, 128)
    dropout: float = 0.3
    balance: Literal["none", "weights", "sampling"] = "none"
    monitor: Literal["accuracy", "uar", "weighted_f1", "macro_f1", "map", "loss"] = "uar"
    seed: int = 0

    def __post_init__(self) -> None:
        # Positive comparisons, which NaN fails.
        if not (0 < self.lr <= 1e3 and 0 < self.encoder_lr <= 1e3 and 0 <= self.weight_decay <= 1e3):
            raise ValueError("lr, encoder_lr and weight_decay must lie between 0 and 1,000, the first two above 0")
        if not 0 <= self.dropout < 1:
            raise ValueError("dropout must lie between 0 and 1, and below 1")
        counts = (self.batch_size, self.epochs, self.patience, *self.hidden)
        if not (min(counts) >= 1 and max(counts) <= 1_000_000):
            raise ValueError("batch_size, epochs, patience and hidden must lie between 1 and 1,000,000")
        if not 0 <= self.seed < 1 << 32:
            raise ValueError("seed must lie between 0 and 4,294,967,295")


def total_loss(
    logits: Sequence[Tensor], targets: Sequence[Tensor], weights: Sequence[Tensor | None], multi_label: bool
) -> Tensor:
    """Return the sum of the mean losses of all tasks.

    Args:
        logits: of each task, (n, labels).
        targets: of each task, class numbers (n,), UNKNOWN for no label, or (n, labels) of 0 and 1.
        weights: of each task's classes, or None for equal ones.
        multi_label: whether a clip may have several labels of a task.

    Returns:
        A scalar; a task without labels adds nothing.
    """
    total = logits[0].new_zeros(())
    for task_logits, target, weight in zip(logits, targets, weights, strict=True):
        if multi_label:
            total = total + F.binary_cross_entropy_with_logits(task_logits, target, pos_weight=weight)
        elif bool((target != UNKNOWN).any()):
            total = total + F.cross_entropy(task_logits, target, weight, ignore_index=UNKNOWN)
    return total


def class_weights(targets: Sequence[Tensor], shape: HeadConfig) -> list[Tensor | None]:
    """Return the weights that balance the classes of each task.

    Args:
        targets: of the training split, as in `total_loss`.
        shape: of the head.

    Returns:
        For each task weights of its classes; of several labels a clip, weights of having a label.
    """
    weights: list[Tensor | None] = []
    for target, labels in zip(targets, shape.tasks.values(), strict=True):
        if shape.multi_label:
            positives = target.sum(dim=0).clamp_min(1.0)
            weights.append(((len(target) - positives) / positives).clamp(1.0, 100.0))
        else:
            counts = torch.bincount(target[target != UNKNOWN], minlength=len(labels)).float()
            occurs = counts > 0
            balanced = counts.sum() / (occurs.sum() * counts.clamp_min(1.0))
            weights.append(torch.where(occurs, balanced, torch.ones(())))
    return weights


def measure_logits(logits: Sequence[Tensor], targets: Sequence[Tensor], multi_label: bool) -> dict[str, float]:
    """Return the measures of `clara_search.metrics.classification` and the loss, each the mean over tasks."""
    rows: list[dict[str, float]] = []
    for task_logits, target in zip(logits, targets, strict=True):
        if multi_label:
            expected, scores = target.numpy() > 0.5, task_logits.numpy().astype(np.float64)
            equal_weights = np.ones((1, len(scores)))
            occurring = np.flatnonzero(expected.any(axis=0))
            precisions = [
                float(weighted_average_precision(expected[:, i], scores[:, i], equal_weights)[0]) for i in occurring
            ]
            rows.append({"map": float(np.mean(precisions)) if precisions else 0.0})
        else:
            known = target != UNKNOWN
            if bool(known.any()):
                predicted = task_logits[known].argmax(dim=-1).numpy()
                rows.append(single_label_metrics(target[known].numpy(), predicted, task_logits.shape[-1]))
    means = {name: float(np.mean([row[name] for row in rows])) for name in (rows[0] if rows else {})}
    return {**means, "loss": float(total_loss(logits, targets, [None] * len(targets), multi_label))}


def is_improvement(row: dict[str, float], best: dict[str, float] | None, monitor: str) -> bool:
    """Return whether the measures in `row` beat `best`: by `monitor`, and by the loss where that is equal.

    A row whose loss is not finite beats nothing.
    """
    if not math.isfinite(row["loss"]):
        return False
    if best is None:
        return True
    if monitor == "loss" or monitor not in row:
        return row["loss"] < best["loss"]
    return (row[monitor], -row["loss"]) > (best[monitor], -best["loss"])


def sample_batches(
    count: int, config: FitConfig, targets: Sequence[Tensor], shape: HeadConfig, epoch: int
) -> Iterator[Tensor]:
    """Yield the batches of an epoch as indices; balanced sampling balances the classes of the first task."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
    if config.balance == "sampling" and not shape.multi_label:
        known = targets[0] != UNKNOWN
        counts = torch.bincount(targets[0][known], minlength=len(next(iter(shape.tasks.values())))).float()
        weights = torch.where(known, 1.0 / counts.clamp_min(1.0)[targets[0].clamp_min(0)], torch.zeros(()))
        order = torch.multinomial(weights, count, replacement=True, generator=generator)
    else:
        order = torch.randperm(count, generator=generator)
    yield from torch.split(order, config.batch_size)


def train_head(
    groups: list[dict[str, Any]],
    model: nn.Module,
    step: Callable[[Tensor], Tensor],
    validate: Callable[[], dict[str, float]],
    batches: Callable[[int], Iterator[Tensor]],
    config: FitConfig,
    on_epoch: OnEpoch,
) -> None:
    """Train by AdamW with a cosine schedule, and leave `model` with the weights of its best epoch.

    Args:
        groups: parameter groups of the optimiser; all of them get gradients.
        model: holds the parameters.
        step: returns the loss of a batch.
        validate: returns the validation measures.
        batches: returns the batches of an epoch.
        config: epochs, patience and monitor.
        on_epoch: called with the row of each epoch.
    """
    optimiser = torch.optim.AdamW(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.epochs)
    best_row: dict[str, float] | None = None
    best_state = copy.deepcopy(model.state_dict())
    epochs_since_best = 0
    for epoch in range(config.epochs):
        losses = []
        for batch in batches(epoch):
            loss = step(batch)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], 1.0)
            optimiser.step()
            losses.append(float(loss.detach()))
        schedule.step()
        row = validate()
        on_epoch({"epoch": float(epoch), "train_loss": float(np.mean(losses)), **prefix_keys(row)})
        epochs_since_best += 1
        if is_improvement(row, best_row, config.monitor):
            best_row, epochs_since_best = row, 0
            best_state = copy.deepcopy(model.state_dict())
        if epochs_since_best >= config.patience:
            break
    model.load_state_dict(best_state)


def prefix_keys(row: dict[str, float]) -> dict[str, float]:
    """Return validation measures under names that begin with "valid_"."""
    return {f"valid_{name}": value for name, value in row.items()}


def parameter_groups(part: nn.Module, config: FitConfig) -> list[dict[str, Any]]:
    """Return a head's parameters for an optimiser: matrices decay, biases do not."""
    parameters = list(part.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "lr": config.lr, "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "lr": config.lr, "weight_decay": 0.0},
    ]

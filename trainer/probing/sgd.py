"""How a head is trained by gradient: its settings, losses, batches, and the epoch that is kept."""

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
from clara_search.metrics.classification import single_label_measures, weighted_average_precision

History = list[dict[str, float]]
"""An epoch, or a step of a sweep, a row."""

OnEpoch = Callable[[dict[str, float]], None]
"""What is done with the row of an epoch."""

UNKNOWN = -1
"""The target of a clip that has no label for a task: it counts for nothing there."""


@dataclass(frozen=True)
class FitConfig:
    """How a head is fitted.

    Attributes:
        head: "linear" and "mlp" by AdamW with early stopping, "logistic" by L-BFGS for each weight of the norm, "knn".
        inputs: as in `HeadConfig`.
        lr: learning rate of the head.
        encoder_lr: that of the encoder, where any of it is trained.
        weight_decay: of the head's matrices.
        batch_size: clips in a step.
        epochs: the most there are.
        patience: epochs without a better one on the validation side after which it stops.
        hidden: widths of the perceptron's inner layers.
        dropout: of the perceptron.
        balance: "weights" of the loss or "sampling", so that all classes count alike; or "none".
        monitor: measure on the validation side that chooses epoch, norm, neighbours and mixture.
        seed: of everything that is drawn.
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
        # Said so that what is no number is refused too.
        if not (0 < self.lr <= 1e3 and 0 < self.encoder_lr <= 1e3 and 0 <= self.weight_decay <= 1e3):
            raise ValueError("lr, encoder_lr and weight_decay must lie between 0 and 1,000, the first two above 0")
        if not 0 <= self.dropout < 1:
            raise ValueError("dropout must lie between 0 and 1, and below 1")
        counts = (self.batch_size, self.epochs, self.patience, *self.hidden)
        if not (min(counts) >= 1 and max(counts) <= 1_000_000):
            raise ValueError("batch_size, epochs, patience and hidden must lie between 1 and 1,000,000")
        if not 0 <= self.seed < 1 << 32:
            raise ValueError("seed must lie between 0 and 4,294,967,295")


def loss_of(
    logits: Sequence[Tensor], targets: Sequence[Tensor], weights: Sequence[Tensor | None], multi: bool
) -> Tensor:
    """Return the sum of the mean losses of all tasks; what has no label for a task adds nothing to it."""
    total = logits[0].new_zeros(())
    for one, target, weight in zip(logits, targets, weights, strict=True):
        if multi:
            total = total + F.binary_cross_entropy_with_logits(one, target, pos_weight=weight)
        elif bool((target != UNKNOWN).any()):
            total = total + F.cross_entropy(one, target, weight, ignore_index=UNKNOWN)
    return total


def class_weights(targets: Sequence[Tensor], shape: HeadConfig) -> list[Tensor | None]:
    """Return for each task weights under which all classes count alike: of several labels, that of having one."""
    found: list[Tensor | None] = []
    for target, labels in zip(targets, shape.tasks.values(), strict=True):
        if shape.multi_label:
            has = target.sum(dim=0).clamp_min(1.0)
            found.append(((len(target) - has) / has).clamp(1.0, 100.0))
        else:
            counts = torch.bincount(target[target != UNKNOWN], minlength=len(labels)).float()
            there = counts > 0
            weights = counts.sum() / (there.sum() * counts.clamp_min(1.0))
            found.append(torch.where(there, weights, torch.ones(())))
    return found


def quality(logits: Sequence[Tensor], targets: Sequence[Tensor], multi: bool) -> dict[str, float]:
    """Return the measures of `class_metrics` and the loss, each the mean over tasks."""
    rows: list[dict[str, float]] = []
    for one, target in zip(logits, targets, strict=True):
        if multi:
            expected, scores = target.numpy() > 0.5, one.numpy().astype(np.float64)
            even = np.ones((1, len(scores)))
            there = np.flatnonzero(expected.any(axis=0))
            precise = [float(weighted_average_precision(expected[:, i], scores[:, i], even)[0]) for i in there]
            rows.append({"map": float(np.mean(precise)) if precise else 0.0})
        else:
            known = target != UNKNOWN
            if bool(known.any()):
                rows.append(
                    single_label_measures(target[known].numpy(), one[known].argmax(dim=-1).numpy(), one.shape[-1])
                )
    found = {name: float(np.mean([row[name] for row in rows])) for name in (rows[0] if rows else {})}
    return {**found, "loss": float(loss_of(logits, targets, [None] * len(targets), multi))}


def is_improvement(now: dict[str, float], best: dict[str, float] | None, monitor: str) -> bool:
    """Return whether `now` beats `best`: by the measure, of equals by the loss; no number beats nothing."""
    if not math.isfinite(now["loss"]):
        return False
    if best is None:
        return True
    if monitor == "loss" or monitor not in now:
        return now["loss"] < best["loss"]
    return (now[monitor], -now["loss"]) > (best[monitor], -best["loss"])


def sample_batches(
    count: int, config: FitConfig, targets: Sequence[Tensor], shape: HeadConfig, epoch: int
) -> Iterator[Tensor]:
    """Yield the batches of an epoch; with balanced sampling the classes of the first task are drawn alike."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
    if config.balance == "sampling" and not shape.multi_label:
        known = targets[0] != UNKNOWN
        counts = torch.bincount(targets[0][known], minlength=len(next(iter(shape.tasks.values())))).float()
        chances = torch.where(known, 1.0 / counts.clamp_min(1.0)[targets[0].clamp_min(0)], torch.zeros(()))
        order = torch.multinomial(chances, count, replacement=True, generator=generator)
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
    report: OnEpoch,
) -> None:
    """Train the parameters of `groups` by AdamW with a cosine, and leave `model` with the weights of its best epoch.

    `step` gives the loss of a batch, `validate` the row of an epoch. Only what asks for a gradient may be in `groups`.
    """
    optimiser = torch.optim.AdamW(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.epochs)
    best: dict[str, float] | None = None
    kept = copy.deepcopy(model.state_dict())
    since = 0
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
        report({"epoch": float(epoch), "train_loss": float(np.mean(losses)), **prefix_keys(row)})
        since += 1
        if is_improvement(row, best, config.monitor):
            best, since = row, 0
            kept = copy.deepcopy(model.state_dict())
        if since >= config.patience:
            break
    model.load_state_dict(kept)


def prefix_keys(row: dict[str, float]) -> dict[str, float]:
    """Return a row of the validation side, named so."""
    return {f"valid_{name}": value for name, value in row.items()}


def parameter_groups(part: nn.Module, config: FitConfig) -> list[dict[str, Any]]:
    """Return a head's parameters for an optimiser: matrices decay, biases do not."""
    parameters = list(part.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "lr": config.lr, "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "lr": config.lr, "weight_decay": 0.0},
    ]

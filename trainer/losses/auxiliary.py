"""The protocol of auxiliary losses: what each compares with, how its targets are batched, and the loss itself."""

from __future__ import annotations

import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, Self, TypeVar

import torch
from torch import Tensor, nn

from clara_search.datasets.example import Example
from clara_search.models.clara.towers import Clara
from trainer.config.loss import AUXILIARY_LOSSES
from trainer.config.recipe import Recipe
from trainer.data.corpus import Corpus
from trainer.data.targets import Crop
from trainer.phones.g2p import PhoneTargets

T = TypeVar("T")


@dataclass(frozen=True)
class LossContext:
    """The parts of a run that an auxiliary loss is created from.

    Attributes:
        recipe: with the model's configuration resolved.
        corpus: all recordings of the run.
        train: the examples trained on.
        phones: phones of the transcripts in `train`; None for a model without a phone head.
    """

    recipe: Recipe
    corpus: Corpus
    train: Sequence[Example]
    phones: PhoneTargets | None


class Outputs(NamedTuple):
    """Outputs of the model for the pairs of a batch, or of a chunk of it.

    Attributes:
        model: the model in training.
        audio: unit vectors (batch, dim).
        text: unit vectors (batch, dim).
        frames: output of the audio tower before pooling (batch, frames, width); None for a loss with `whole_batch`.
        mask: (batch, frames), true where `frames` is not padding; None with `frames`.
    """

    model: Clara
    audio: Tensor
    text: Tensor
    frames: Tensor | None = None
    mask: Tensor | None = None


class LossSum(NamedTuple):
    """A loss as a sum and the number of terms in it, so that chunks of a batch add up to its mean."""

    total: Tensor
    terms: Tensor


class AuxiliaryLoss(ABC, Generic[T]):
    """A loss beside the contrastive one, added to it with the weight that `[auxiliary]` gives its name.

    `targets` and `collate` run in the worker processes that load data, `loss` in the training step.
    """

    name: ClassVar[str]
    """Its key in `[auxiliary]`; it is logged as NAME_loss."""
    needs_teacher: ClassVar[bool] = False
    """Whether creating it runs another model over the corpus; such a loss is left out of a dry run."""
    whole_batch: ClassVar[bool] = False
    """Whether it compares the pairs of a batch with each other; `loss` then gets the whole batch and no frames."""
    head: nn.Module | None = None
    """The module from `new_head`; trained beside the model, and not exported."""

    @classmethod
    def check(cls, recipe: Recipe) -> None:
        """Raise ConfigError if `recipe` lacks what this loss needs."""

    @classmethod
    @abstractmethod
    def create(cls, context: LossContext) -> Self:
        """Return the loss for a run."""

    def new_head(self, model: Clara) -> nn.Module | None:
        """Return a module with the parameters that `loss` needs beside those of `model`; None by default."""
        return None

    @abstractmethod
    def targets(self, crop: Crop) -> T:
        """Return the target of one example."""

    @abstractmethod
    def collate(self, targets: Sequence[T]) -> tuple[Tensor, ...]:
        """Return the targets of a batch as tensors, each of shape (batch, ...)."""

    @abstractmethod
    def loss(self, outputs: Outputs, targets: tuple[Tensor, ...]) -> LossSum:
        """Return the loss of a batch, or of a chunk of it, with the collated `targets` of the same rows."""

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self  # an average of the weights copies the module: targets of a corpus need no second copy


def auxiliary_classes(recipe: Recipe) -> list[type[AuxiliaryLoss[Any]]]:
    """Return the classes of the losses whose weight in `recipe` is not 0, in the order of their registration."""
    named = (home for name, home in AUXILIARY_LOSSES.items() if recipe.auxiliary.get(name))
    return [pkgutil.resolve_name(home) for home in named]


def create_auxiliary_losses(context: LossContext, dry_run: bool = False) -> list[AuxiliaryLoss[Any]]:
    """Return the auxiliary losses of a run; a `dry_run` leaves out those that need a teacher."""
    classes = auxiliary_classes(context.recipe)
    return [loss.create(context) for loss in classes if not (dry_run and loss.needs_teacher)]


def mean_of_sums(sums: Sequence[LossSum]) -> Tensor:
    """Return the mean over all terms of `sums`; 0 without any."""
    terms = torch.stack([x.terms for x in sums]).sum()
    return torch.stack([x.total for x in sums]).sum() / terms.clamp_min(1)

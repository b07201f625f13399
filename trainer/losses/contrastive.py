"""The base of the contrastive losses over pairs of audio and text.

Where several processes train together, each compares its own rows with the columns of all of them, with gradients
through the gathering: the mean over the processes equals the loss of one large batch, and so do its gradients.
"""

from __future__ import annotations

import math
import pkgutil
from abc import ABC, abstractmethod

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather

from clara_search.models.clara.towers import Clara
from trainer.config.loss import CONTRASTIVE_LOSSES, LossConfig

MAX_LOGIT_SCALE = math.log(100.0)
"""Upper bound of a log logit scale, as in CLIP."""


class ContrastiveLoss(nn.Module, ABC):
    """A loss of pairs of unit vectors, with the logit scales (and a bias) that it learns.

    Scales are stored as logarithms, as in CLIP. A subclass defines its parameters, `pair_loss`, and how its scales map
    to the two scales that a model folder stores.
    """

    def __init__(self, config: LossConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, audio: Tensor, text: Tensor, groups: Tensor) -> Tensor:
        """Return the loss of a batch of pairs, averaged over the full and the Matryoshka dimensions.

        Args:
            audio: unit vectors (batch, dim).
            text: unit vectors (batch, dim); row i belongs to row i of `audio`.
            groups: (batch,) integers; items with the same caption have the same number.

        Returns:
            A scalar, in float32.
        """
        if not self.config.multi_positive:
            groups = torch.arange(len(groups), device=groups.device) + _rank() * len(groups)
        positives = groups[:, None] == gather_with_gradients(groups)[None, :]
        with torch.autocast(audio.device.type, enabled=False):  # bf16 is too coarse for cosines times a large scale
            losses = []
            for dim in (audio.shape[1], *self.config.matryoshka_dims):
                audio_cut, text_cut = _cut(audio.float(), dim), _cut(text.float(), dim)
                audio_to_text = audio_cut @ gather_with_gradients(text_cut).T
                text_to_audio = text_cut @ gather_with_gradients(audio_cut).T
                losses.append(self.pair_loss(audio_to_text, text_to_audio, positives))
            return torch.stack(losses).mean()

    @abstractmethod
    def pair_loss(self, audio_to_text: Tensor, text_to_audio: Tensor, positives: Tensor) -> Tensor:
        """Return the loss of cosines, both (rows, columns), where `positives` (rows, columns) marks matching pairs."""

    @abstractmethod
    def logit_scales(self) -> tuple[Tensor, Tensor]:
        """Return the log logit scales from audio to text and from text to audio."""

    @abstractmethod
    def load_logit_scales(self, audio: Tensor, text: Tensor) -> None:
        """Take over the log logit scales of a trained model."""

    def clamp_logit_scales(self) -> None:
        """Keep the scales at or below 100; call it after each step."""
        with torch.no_grad():
            for scale in self.logit_scales():
                scale.clamp_(max=MAX_LOGIT_SCALE)

    def store_logit_scales(self, model: Clara) -> None:
        """Copy the scales into `model`, which stores them with its weights."""
        audio, text = self.logit_scales()
        with torch.no_grad():
            model.audio_logit_scale.copy_(audio)
            model.text_logit_scale.copy_(text)


def new_contrastive_loss(config: LossConfig) -> ContrastiveLoss:
    """Return the loss that `config.kind` names, with its initial scales."""
    loss: ContrastiveLoss = pkgutil.resolve_name(CONTRASTIVE_LOSSES[config.kind])(config)
    return loss


def gather_with_gradients(tensor: Tensor) -> Tensor:
    """Return the rows of `tensor` of all processes, in order of rank; in a single process, `tensor` itself."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return tensor
    return torch.cat(all_gather(tensor.contiguous()))  # type: ignore[no-untyped-call]


def _rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def _cut(vectors: Tensor, dim: int) -> Tensor:
    """Return the first `dim` dimensions of `vectors`, at unit norm."""
    return vectors if dim == vectors.shape[1] else F.normalize(vectors[:, :dim], dim=-1)

"""Losses against the outputs of teacher models."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def frame_distillation_loss(frames: Tensor, taught: Tensor, mask: Tensor) -> Tensor:
    """Return how far `frames` are from what a teacher heard: squared errors, averaged over features, then summed.

    Both are (batch, frames, ...) with standardised features; `mask` (batch, frames) is true where a frame stands.
    """
    return (frames - taught).square().flatten(2).mean(dim=2)[mask].sum()


def similarity_distillation_loss(text: Tensor, taught: Tensor) -> Tensor:
    """Return the mean squared difference between the cosines of unit vectors `text` and those of `taught`.

    Both are (batch, dim), of any two dims: texts should be as like each other as the teacher finds them. No texts: 0.
    """
    if not len(text):
        return text.sum()
    return F.mse_loss(text @ text.T, taught @ taught.T)

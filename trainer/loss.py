"""CLARA's contrastive loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_loss(audio: Tensor, text: Tensor, audio_scale: Tensor, text_scale: Tensor, groups: Tensor) -> Tensor:
    """Return the mean of two cross-entropies, from audio to text and from text to audio, each with its own scale.

    `audio` and `text` are unit vectors, shape (batch, dim), pair by pair; scales multiply the cosine. Items of equal
    `groups` (batch,) are all right answers to each other, in equal parts: a caption that repeats in a batch is not its
    own negative. With all groups distinct it is the loss of the released code.
    """
    similarities = audio @ text.T
    positives = (groups[:, None] == groups[None, :]).float()
    targets = positives / positives.sum(dim=1, keepdim=True)
    from_audio = F.cross_entropy(audio_scale * similarities, targets)
    from_text = F.cross_entropy(text_scale * similarities.T, targets)
    return torch.stack([from_audio, from_text]).mean()

"""CLARA's contrastive loss, and an auxiliary one that asks the frames what is said."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.phones import BLANK


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


def phone_loss(logits: Tensor, mask: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
    """Return the CTC loss of `logits` (batch, frames, phones) under `mask` (batch, frames), per phone.

    `targets` (batch, longest) holds indices of phones, `lengths` (batch,) how many count. A recording without phones
    has no part in it, nor has one that is too short for its phones.
    """
    spoken = lengths > 0
    if not spoken.any():
        return logits.sum() * 0.0
    losses = F.ctc_loss(
        logits[spoken].float().log_softmax(dim=-1).transpose(0, 1),
        targets[spoken],
        mask[spoken].sum(dim=1),
        lengths[spoken],
        blank=BLANK,
        reduction="none",
        zero_infinity=True,
    )
    return losses.sum() / lengths.sum()

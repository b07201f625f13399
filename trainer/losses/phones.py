"""Losses that ask the frames of the audio tower for phones (CTC), and the text tower for the same."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from clara_search.models.clara.phone_head import BLANK, PhoneHead
from trainer.phones.bigrams import known_phone_bigrams


def phone_loss(logits: Tensor, mask: Tensor | None, targets: Tensor, lengths: Tensor) -> Tensor:
    """Return the summed CTC loss of `logits` (batch, frames, phones) under `mask` (batch, frames).

    `targets` (batch, longest) holds indices of phones, `lengths` (batch,) how many count. A recording without phones
    has no part in it, nor has one that is too short for its phones.
    """
    assert mask is not None
    spoken = lengths > 0
    if not spoken.any():
        return logits.sum() * 0.0
    return F.ctc_loss(
        logits[spoken].float().log_softmax(dim=-1).transpose(0, 1),
        targets[spoken],
        mask[spoken].sum(dim=1),
        lengths[spoken],
        blank=BLANK,
        reduction="sum",
        zero_infinity=True,
    )


def text_phone_loss(spoken: PhoneHead, text: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
    """Return how far unit vectors `text` (batch, dim) are from those of their phones: 1 - cosine, summed.

    `targets` and `lengths` are those of `phone_loss`; a text without phones has no part in it.
    """
    said = lengths > 0
    if not said.any():
        return text.sum() * 0.0
    vectors = F.normalize(
        spoken.embed_bigrams(known_phone_bigrams(targets[said], lengths[said], spoken.num_phones)).float(), dim=-1
    )
    return (1.0 - (text[said] * vectors).sum(dim=1)).sum()

"""Auxiliary losses over the phones of transcripts: CTC for the audio tower, their embedding for the text tower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from clara_search.errors import ConfigError
from clara_search.models.clara.phone_head import BLANK, PhoneHead, known_phone_bigrams
from trainer.config.recipe import Recipe
from trainer.data.targets import Crop
from trainer.losses.auxiliary import AuxiliaryLoss, LossContext, LossSum, Outputs
from trainer.phones.g2p import PhoneTargets


class _PhoneLoss(AuxiliaryLoss[Sequence[int]]):
    """A loss whose target is the phones of a transcript, as indices; empty for an example without a transcript."""

    def __init__(self, phones: PhoneTargets) -> None:
        self._phones = phones

    @classmethod
    def check(cls, recipe: Recipe) -> None:
        """Raise ConfigError for a model without a phone head."""
        if recipe.model.phone_head is None:
            raise ConfigError(f"auxiliary.{cls.name} needs a model with phones: add [model.phone_head] to the recipe")

    @classmethod
    def create(cls, context: LossContext) -> Self:
        """Return the loss for the phones of `context`."""
        assert context.phones is not None
        return cls(context.phones)

    def targets(self, crop: Crop) -> Sequence[int]:
        """Return the phones of the transcript."""
        return self._phones.of(crop.example)

    def collate(self, targets: Sequence[Sequence[int]]) -> tuple[Tensor, ...]:
        """Return the phones (batch, longest), padded, and their number (batch,)."""
        rows = [torch.tensor(phones, dtype=torch.long) for phones in targets]
        return pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])


class PhoneCTC(_PhoneLoss):
    """CTC loss of the phones that the audio tower's frames predict, per phone."""

    name: ClassVar[str] = "phone_ctc"

    def loss(self, outputs: Outputs, targets: tuple[Tensor, ...]) -> LossSum:
        """Return the summed CTC loss and the number of phones."""
        phones, lengths = targets
        assert outputs.model.phone_head is not None
        assert outputs.frames is not None
        logits, mask = outputs.model.phone_head.predict_from_frames(outputs.frames, outputs.mask)
        return LossSum(phone_ctc_loss(logits, mask, phones, lengths), lengths.sum())


class TextPhone(_PhoneLoss):
    """Distance of the text embedding from the embedding of the transcript's phones: 1 - cosine, per transcript."""

    name: ClassVar[str] = "text_phone"

    def loss(self, outputs: Outputs, targets: tuple[Tensor, ...]) -> LossSum:
        """Return the summed distances and the number of texts with phones."""
        phones, lengths = targets
        assert outputs.model.phone_head is not None
        total = text_phone_loss(outputs.model.phone_head, outputs.text, phones, lengths)
        return LossSum(total, (lengths > 0).sum())


def phone_ctc_loss(logits: Tensor, mask: Tensor | None, targets: Tensor, lengths: Tensor) -> Tensor:
    """Return the summed CTC loss; recordings without phones, or too short for them, add nothing.

    Args:
        logits: (batch, slots, 1 + phones).
        mask: (batch, slots), true where a slot is not padding.
        targets: (batch, longest) indices of phones.
        lengths: (batch,) number of phones in each row of `targets`.
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


def text_phone_loss(phone_head: PhoneHead, text: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
    """Return 1 - cosine between unit vectors `text` (batch, dim) and the embeddings of their phones, summed.

    `targets` and `lengths` are those of `phone_ctc_loss`; a text without phones adds nothing.
    """
    spoken = lengths > 0
    if not spoken.any():
        return text.sum() * 0.0
    bigrams = known_phone_bigrams(targets[spoken], lengths[spoken], phone_head.num_phones)
    embedded = F.normalize(phone_head.embed_bigrams(bigrams).float(), dim=-1)
    return (1.0 - (text[spoken] * embedded).sum(dim=1)).sum()

"""Contrastive losses by cross-entropy: CLARA with a logit scale for each direction, InfoNCE with one for both."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clara_search.models.clara.towers import INITIAL_LOGIT_SCALE
from trainer.config.loss import LossConfig
from trainer.losses.contrastive import ContrastiveLoss


class ClaraLoss(ContrastiveLoss):
    """Cross-entropy in both directions with a logit scale each: the loss of the released code (arXiv 2310.11830)."""

    def __init__(self, config: LossConfig) -> None:
        super().__init__(config)
        self.audio_logit_scale = nn.Parameter(torch.tensor(INITIAL_LOGIT_SCALE))
        self.text_logit_scale = nn.Parameter(torch.tensor(INITIAL_LOGIT_SCALE))

    def pair_loss(self, audio_to_text: Tensor, text_to_audio: Tensor, positives: Tensor) -> Tensor:
        """Return the mean of both cross-entropies; see `ContrastiveLoss.pair_loss`."""
        return symmetric_cross_entropy(
            audio_to_text * self.audio_logit_scale.exp(), text_to_audio * self.text_logit_scale.exp(), positives
        )

    def logit_scales(self) -> tuple[Tensor, Tensor]:
        """Return both scales."""
        return self.audio_logit_scale, self.text_logit_scale

    def load_logit_scales(self, audio: Tensor, text: Tensor) -> None:
        """Take over both scales."""
        with torch.no_grad():
            self.audio_logit_scale.copy_(audio)
            self.text_logit_scale.copy_(text)


class InfoNCELoss(ContrastiveLoss):
    """Cross-entropy in both directions with one logit scale, as in CLIP (arXiv 2103.00020)."""

    def __init__(self, config: LossConfig) -> None:
        super().__init__(config)
        self.logit_scale = nn.Parameter(torch.tensor(INITIAL_LOGIT_SCALE))

    def pair_loss(self, audio_to_text: Tensor, text_to_audio: Tensor, positives: Tensor) -> Tensor:
        """Return the mean of both cross-entropies; see `ContrastiveLoss.pair_loss`."""
        scale = self.logit_scale.exp()
        return symmetric_cross_entropy(audio_to_text * scale, text_to_audio * scale, positives)

    def logit_scales(self) -> tuple[Tensor, Tensor]:
        """Return the scale, for both directions."""
        return self.logit_scale, self.logit_scale

    def load_logit_scales(self, audio: Tensor, text: Tensor) -> None:
        """Take over the scale from audio to text."""
        with torch.no_grad():
            self.logit_scale.copy_(audio)


def symmetric_cross_entropy(audio_to_text: Tensor, text_to_audio: Tensor, positives: Tensor) -> Tensor:
    """Return the mean of the cross-entropies of two matrices of logits, both (rows, columns).

    The target of a row is spread evenly over its `positives` (rows, columns).
    """
    targets = positives.to(audio_to_text.dtype)
    targets = targets / targets.sum(dim=1, keepdim=True)
    return torch.stack([F.cross_entropy(logits, targets) for logits in (audio_to_text, text_to_audio)]).mean()

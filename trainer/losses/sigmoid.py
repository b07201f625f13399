"""The sigmoid loss of SigLIP (arXiv 2303.15343)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.config.loss import LossConfig
from trainer.losses.contrastive import ContrastiveLoss

INITIAL_LOGIT_SCALE, INITIAL_LOGIT_BIAS = math.log(10.0), -10.0
"""At the start nearly every pair is predicted to be a negative, as nearly every pair is."""


class SigmoidLoss(ContrastiveLoss):
    """A binary decision for every pair of a batch, with one logit scale and a bias."""

    def __init__(self, config: LossConfig) -> None:
        super().__init__(config)
        self.logit_bias = nn.Parameter(torch.tensor(INITIAL_LOGIT_BIAS))
        self.logit_scale = nn.Parameter(torch.tensor(INITIAL_LOGIT_SCALE))

    def pair_loss(self, audio_to_text: Tensor, text_to_audio: Tensor, positives: Tensor) -> Tensor:
        """Return the log-losses of all pairs, summed over columns and averaged over rows.

        With several processes each pair is in two of them, once in each direction: the mean counts both.
        """
        return torch.stack([self._log_loss(cosines, positives) for cosines in (audio_to_text, text_to_audio)]).mean()

    def _log_loss(self, cosines: Tensor, positives: Tensor) -> Tensor:
        logits = cosines * self.logit_scale.exp() + self.logit_bias
        targets = positives.to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / len(logits)

    def logit_scales(self) -> tuple[Tensor, Tensor]:
        """Return the scale, for both directions."""
        return self.logit_scale, self.logit_scale

    def load_logit_scales(self, audio: Tensor, text: Tensor) -> None:
        """Take over the scale from audio to text; a model folder stores no bias."""
        with torch.no_grad():
            self.logit_scale.copy_(audio)

"""Expected phone bigrams of a known phone sequence."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clara_search.models.clara.phone_head import BLANK, expected_phone_bigrams

_CERTAIN = 100.0
"""The logit of a phone that is certain."""


def known_phone_bigrams(targets: Tensor, lengths: Tensor, phones: int) -> Tensor:
    """Return `expected_phone_bigrams` of known phones: `targets` (batch, longest) of indices, `lengths` (batch,)."""
    slots = targets.new_full((len(targets), 2 * targets.shape[1] + 1), BLANK)  # a blank keeps equal neighbours apart
    slots[:, 1::2] = targets
    there = torch.arange(slots.shape[1], device=targets.device)[None] <= 2 * lengths[:, None]
    return expected_phone_bigrams(F.one_hot(slots, phones + 1) * _CERTAIN, there)

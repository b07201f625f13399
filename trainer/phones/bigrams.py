"""Expected phone bigrams of a known phone sequence."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clara_search.models.clara.phone_head import BLANK, expected_phone_bigrams

_CERTAIN = 100.0
"""Logit of a known phone."""


def known_phone_bigrams(targets: Tensor, lengths: Tensor, phones: int) -> Tensor:
    """Return `expected_phone_bigrams` for known phones.

    Args:
        targets: indices of phones (batch, longest).
        lengths: number of phones in each row (batch,).
        phones: size of the inventory.

    Returns:
        (batch, phones * phones + phones), float32.
    """
    slots = targets.new_full((len(targets), 2 * targets.shape[1] + 1), BLANK)  # a blank separates equal neighbours
    slots[:, 1::2] = targets
    mask = torch.arange(slots.shape[1], device=targets.device)[None] <= 2 * lengths[:, None]
    return expected_phone_bigrams(F.one_hot(slots, phones + 1) * _CERTAIN, mask)

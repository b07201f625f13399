"""Means over sums that were accumulated in parts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def mean_of_parts(sums: Sequence[Tensor], count: Tensor) -> Tensor:
    """Return what was summed in parts, divided by `count`."""
    return torch.stack(list(sums)).sum() / count.clamp_min(1)

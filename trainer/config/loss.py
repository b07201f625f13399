"""Settings of the contrastive loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from clara_search.config import Between, check_bounds

LossKind = Literal["clara", "infonce", "sigmoid"]


@dataclass(frozen=True)
class LossConfig:
    """What pulls pairs together and pushes others apart.

    Attributes:
        kind: "clara": cross-entropies from audio to text and back, each with a learned temperature of its own, as in
            the released code; "infonce": the same with one temperature for both, as in CLIP; "sigmoid": a yes or no for
            every pair with one temperature and a bias, as in SigLIP (arXiv 2303.15343).
        multi_positive: whether equal captions in a batch are right answers to each other, rather than negatives.
        prefixes: vectors cut to these dimensions have a part in the loss too (Matryoshka, arXiv 2205.13147).
        chunk: pairs that are embedded at once; their activations are thrown away and computed again for the backward
            pass, so that memory bounds the chunk and not the batch (GradCache, arXiv 2101.06983). 0: all at once.
    """

    kind: LossKind = "clara"
    multi_positive: bool = True
    prefixes: Annotated[tuple[int, ...], Between(1, 1_000_000)] = ()
    chunk: Annotated[int, Between(0, 1_000_000)] = 0

    def __post_init__(self) -> None:
        check_bounds(self)

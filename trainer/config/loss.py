"""Settings of the contrastive loss and of the auxiliary losses, and the names under which losses are registered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from clara_search.config import Between, check_bounds

CONTRASTIVE_LOSSES: dict[str, str] = {
    "clara": "trainer.losses.cross_entropy:ClaraLoss",
    "infonce": "trainer.losses.cross_entropy:InfoNCELoss",
    "sigmoid": "trainer.losses.sigmoid:SigmoidLoss",
}
"""The values of `loss.kind`, and the class of each as "module:class", imported when a run uses it."""

AUXILIARY_LOSSES: dict[str, str] = {
    "frame_distillation": "trainer.losses.distillation:FrameDistillation",
    "phone_ctc": "trainer.losses.phones:PhoneCTC",
    "text_phone": "trainer.losses.phones:TextPhone",
    "similarity_distillation": "trainer.losses.distillation:SimilarityDistillation",
}
"""The keys of `[auxiliary]`, and the class of each as "module:class", imported when its weight is not 0."""


@dataclass(frozen=True)
class LossConfig:
    """The contrastive loss.

    Attributes:
        kind: "clara": cross-entropy in both directions, each with a learned logit scale, as in the released code;
            "infonce": the same with one logit scale, as in CLIP; "sigmoid": a binary decision for every pair, with one
            logit scale and a bias, as in SigLIP (arXiv 2303.15343).
        multi_positive: whether equal captions in a batch count as positives of each other, rather than as negatives.
        matryoshka_dims: the loss is averaged over embeddings cut to these dimensions too (arXiv 2205.13147).
        gradcache_chunk: pairs embedded at a time; their activations are recomputed in the backward pass, so that memory
            grows with the chunk and not with the batch (GradCache, arXiv 2101.06983). 0 embeds the whole batch.
    """

    kind: str = "clara"
    multi_positive: bool = True
    matryoshka_dims: Annotated[tuple[int, ...], Between(1, 1_000_000)] = ()
    gradcache_chunk: Annotated[int, Between(0, 1_000_000)] = 0

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.kind not in CONTRASTIVE_LOSSES:
            raise ValueError(f"kind must be one of {', '.join(CONTRASTIVE_LOSSES)}, got {self.kind!r}")


def check_auxiliary_names(weights: dict[str, float]) -> None:
    """Raise ValueError for a key of `[auxiliary]` under which no loss is registered."""
    if unknown := sorted(weights.keys() - AUXILIARY_LOSSES.keys()):
        raise ValueError(f"auxiliary: no loss is called {unknown[0]!r}; there are {', '.join(AUXILIARY_LOSSES)}")

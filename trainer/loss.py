"""Contrastive losses over pairs of audio and text, and auxiliary ones that ask the frames what is said and heard.

Where several processes train together, each scores its own rows against the columns of all of them, with gradients
through the gathering: the mean over the processes is the loss, and has the gradients, of one large batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.nn.functional import all_gather

from clara_search.config import Between, check_bounds
from clara_search.models.phones import BLANK, Spoken, count_pairs

_CERTAIN = 100.0
"""The logit of a phone that is certain."""

Kind = Literal["clara", "infonce", "sigmoid"]


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

    kind: Kind = "clara"
    multi_positive: bool = True
    prefixes: Annotated[tuple[int, ...], Between(1, 1_000_000)] = ()
    chunk: Annotated[int, Between(0, 1_000_000)] = 0

    def __post_init__(self) -> None:
        check_bounds(self)


def gathered(tensor: Tensor) -> Tensor:
    """Return the rows of `tensor` of all processes, in order, with gradients; of this one where there are no others."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return tensor
    return torch.cat(all_gather(tensor.contiguous()))  # type: ignore[no-untyped-call]


def contrastive_loss(
    audio: Tensor,
    text: Tensor,
    groups: Tensor,
    config: LossConfig,
    audio_scale: Tensor,
    text_scale: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    """Return the loss of unit vectors `audio` and `text`, both (batch, dim), pair by pair.

    Items of equal `groups` (batch,) say the same. Scales multiply the cosine; `text_scale` counts for "clara" alone,
    `bias` for "sigmoid". With all groups distinct, "clara" is the loss of the released code.
    """
    groups = (
        groups if config.multi_positive else torch.arange(len(groups), device=groups.device) + _rank() * len(groups)
    )
    positives = groups[:, None] == gathered(groups)[None, :]
    with torch.autocast(audio.device.type, enabled=False):  # bf16 would blur cosines that a temperature multiplies
        return _contrastive_loss(audio.float(), text.float(), positives, config, audio_scale, text_scale, bias)


def _contrastive_loss(
    audio: Tensor,
    text: Tensor,
    positives: Tensor,
    config: LossConfig,
    audio_scale: Tensor,
    text_scale: Tensor,
    bias: Tensor | None,
) -> Tensor:
    losses = []
    for dim in (audio.shape[1], *config.prefixes):
        heard, said = _prefix(audio, dim), _prefix(text, dim)
        to_text, to_audio = heard @ gathered(said).T, said @ gathered(heard).T
        if config.kind == "sigmoid":
            assert bias is not None
            # One process sees each of its pairs twice, from either side: the mean counts both.
            ways = [_sigmoid(similarities * audio_scale + bias, positives) for similarities in (to_text, to_audio)]
        else:
            other = text_scale if config.kind == "clara" else audio_scale
            ways = [_cross_entropy(to_text * audio_scale, positives), _cross_entropy(to_audio * other, positives)]
        losses.append(torch.stack(ways).mean())
    return torch.stack(losses).mean()


def _rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def _prefix(vectors: Tensor, dim: int) -> Tensor:
    return vectors if dim == vectors.shape[1] else F.normalize(vectors[:, :dim], dim=-1)


def _cross_entropy(logits: Tensor, positives: Tensor) -> Tensor:
    """Return the cross-entropy of rows whose right answers are `positives`, in equal parts."""
    targets = positives.to(logits.dtype)
    return F.cross_entropy(logits, targets / targets.sum(dim=1, keepdim=True))


def _sigmoid(logits: Tensor, positives: Tensor) -> Tensor:
    """Return the mean over rows of the log-losses of all their pairs."""
    targets = positives.to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / len(logits)


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


def reading_loss(spoken: Spoken, text: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
    """Return how far unit vectors `text` (batch, dim) are from those of their phones: 1 - cosine, summed.

    `targets` and `lengths` are those of `phone_loss`; a text without phones has no part in it.
    """
    said = lengths > 0
    if not said.any():
        return text.sum() * 0.0
    vectors = F.normalize(spoken.embed(pairs_of(targets[said], lengths[said], spoken.phones)).float(), dim=-1)
    return (1.0 - (text[said] * vectors).sum(dim=1)).sum()


def pairs_of(targets: Tensor, lengths: Tensor, phones: int) -> Tensor:
    """Return `count_pairs` of what is certainly said: `targets` (batch, longest) of indices, `lengths` (batch,)."""
    slots = targets.new_full((len(targets), 2 * targets.shape[1] + 1), BLANK)  # a blank keeps equal neighbours apart
    slots[:, 1::2] = targets
    there = torch.arange(slots.shape[1], device=targets.device)[None] <= 2 * lengths[:, None]
    return count_pairs(F.one_hot(slots, phones + 1) * _CERTAIN, there)


def taught_loss(frames: Tensor, taught: Tensor, mask: Tensor) -> Tensor:
    """Return how far `frames` are from what a teacher heard: squared errors, averaged over features, then summed.

    Both are (batch, frames, ...) with standardised features; `mask` (batch, frames) is true where a frame stands.
    """
    return (frames - taught).square().flatten(2).mean(dim=2)[mask].sum()


def likeness_loss(text: Tensor, taught: Tensor) -> Tensor:
    """Return the mean squared difference between the cosines of unit vectors `text` and those of `taught`.

    Both are (batch, dim), of any two dims: texts should be as like each other as the teacher finds them. No texts: 0.
    """
    if not len(text):
        return text.sum()
    return F.mse_loss(text @ text.T, taught @ taught.T)


def mean_of(sums: Sequence[Tensor], count: Tensor) -> Tensor:
    """Return what was summed in parts, divided by `count`."""
    return torch.stack(list(sums)).sum() / count.clamp_min(1)

"""Contrastive losses over pairs of audio and text, and auxiliary ones that ask the frames what is said and heard.

Where several processes train together, each scores its own rows against the columns of all of them, with gradients
through the gathering: the mean over the processes is the loss, and has the gradients, of one large batch.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.nn.functional import all_gather

from trainer.config.loss import LossConfig


def gather_with_gradients(tensor: Tensor) -> Tensor:
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
    positives = groups[:, None] == gather_with_gradients(groups)[None, :]
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
        to_text, to_audio = heard @ gather_with_gradients(said).T, said @ gather_with_gradients(heard).T
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

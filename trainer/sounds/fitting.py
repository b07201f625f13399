"""Fitting a sound head: its space, its classifiers, and the corrections of both towers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clara_search.models.clara.sound_head import SoundHead

log = logging.getLogger(__name__)

CORRECTION = 0.5
"""Factor of the corrections after training: they are learned at full length, on few and noisy captions."""

_MEANING_SCALE = 20.0
"""Meanings have unit norm: this scale gives their 512 components about unit variance."""


def principal_components(rows: Tensor, count: int) -> Tensor:
    """Return the unit directions (count, d) of the greatest variance of `rows` (n, d), the greatest first."""
    _, vectors = torch.linalg.eigh(torch.cov(rows.T.double()))
    directions: Tensor = vectors.flip(1)[:, :count].T.float()
    return directions


def logistic_regression(rows: Tensor, labels: Tensor, weights: Tensor, classes: int, decay: float) -> nn.Linear:
    """Fit a multinomial logistic regression; the result is deterministic.

    Args:
        rows: features, (n, d).
        labels: classes from 0, (n,).
        weights: weights of the rows, (n,); only their ratios matter.
        classes: number of classes.
        decay: factor of the sum of the squared layer weights that is added to the weighted mean loss.

    Returns:
        The linear layer from d features to `classes` logits.
    """
    layer = nn.Linear(rows.shape[1], classes)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=200, line_search_fn="strong_wolfe")
    weights = weights / weights.sum()

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(layer(rows), labels, reduction="none") @ weights + decay * layer.weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return layer


def balanced(groups: Sequence[tuple[int, float]]) -> Tensor:
    """Return the weights of all items, (n,), for groups of (number of items, total weight)."""
    return torch.cat([torch.full((size,), weight / size) for size, weight in groups])


@dataclass(frozen=True)
class Pairs:
    """Sounds with their names, to fit the corrections to.

    Attributes:
        scores: standardized class scores (n, 521).
        features: standardized features (n, 1024).
        names: index into `meanings` of the name of each sound, n in all.
        meanings: for each name the meanings of its variants, (variants, 512), the name itself first.
        anchors: meanings (m, 512) of texts whose similarities to the sounds should not change.
    """

    scores: Tensor
    features: Tensor
    names: Sequence[int]
    meanings: Sequence[Tensor]
    anchors: Tensor


def fit_corrections(head: SoundHead, pairs: Pairs, epochs: int, seed: int, batch: int = 256) -> None:
    """Fit both corrections of `head`, in place, by a contrastive loss between sounds and their names.

    A second loss keeps the similarities of anchors to sounds as they were. After training the corrections are scaled
    by `CORRECTION`.

    Args:
        head: the head, with its space fitted.
        pairs: sounds and their names.
        epochs: passes over the names.
        seed: seed of torch and of the sampling.
        batch: names a step.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    corrections = (head.audio_correction, head.text_correction)
    _init(head.audio_correction, 1.0)
    _init(head.text_correction, _MEANING_SCALE)
    log_scale = nn.Parameter(torch.tensor(2.7))
    parameters = [*(p for correction in corrections for p in correction.parameters()), log_scale]
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.05)
    clips = _rows_by_name(pairs.names)
    anchors, sounds = _embed_text(head, pairs.anchors), head.embed_audio(pairs.scores, pairs.features)
    anchors, sounds = anchors.detach(), sounds.detach()
    for epoch in range(epochs):
        total, steps = 0.0, 0
        for sampled in np.array_split(order := rng.permutation(len(clips)), max(1, round(len(order) / batch))):
            meanings = torch.stack([_sample_variant(pairs.meanings[name], rng) for name in sampled])
            rows = [int(rng.choice(clips[name])) for name in sampled]
            dropped = [F.dropout(x[rows], 0.3) for x in (pairs.scores, pairs.features)]
            logits = (
                log_scale.exp().clamp(max=50.0)
                * _embed_text(head, meanings, 0.3)
                @ _embed_audio(head, pairs.scores[rows], dropped).T
            )
            targets = torch.arange(len(sampled))
            loss = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2.0
            anchored = torch.randint(len(anchors), (128,)), torch.randint(len(sounds), (128,))
            similarity = (
                _embed_text(head, pairs.anchors[anchored[0]])
                @ head.embed_audio(pairs.scores[anchored[1]], pairs.features[anchored[1]]).T
            )
            loss = loss + 10.0 * (similarity - anchors[anchored[0]] @ sounds[anchored[1]].T).square().mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total, steps = total + loss.item(), steps + 1
        log.info("epoch %d of %d: loss %.3f", epoch + 1, epochs, total / steps)
    with torch.no_grad():
        for parameter in (p for correction in corrections for p in correction[2].parameters()):
            parameter.mul_(CORRECTION)


def _embed_text(head: SoundHead, meanings: Tensor, dropout: float = 0.0) -> Tensor:
    similarity = meanings @ head.anchors.T
    known = F.normalize((similarity * head.config.sharpness).softmax(dim=-1) @ head.anchor_vectors, dim=-1)
    return F.normalize(known + _apply(head.text_correction, meanings, dropout), dim=-1)


def _embed_audio(head: SoundHead, scores: Tensor, dropped: Sequence[Tensor]) -> Tensor:
    known = F.normalize(head.class_vectors(scores), dim=-1)
    return F.normalize(known + _apply(head.audio_correction, torch.cat(list(dropped), dim=-1), 0.3), dim=-1)


def _apply(correction: nn.Sequential, x: Tensor, dropout: float) -> Tensor:
    return correction[2](F.dropout(correction[1](correction[0](x)), dropout))  # type: ignore[no-any-return]


def _init(correction: nn.Sequential, scale: float) -> None:
    """Initialize the first layer at random, its weights times `scale`, and the last layer with zeros."""
    first, last = correction[0], correction[2]
    assert isinstance(first, nn.Linear)
    bound = first.in_features**-0.5
    nn.init.uniform_(first.weight, -bound * scale, bound * scale)
    nn.init.uniform_(first.bias, -bound, bound)
    for parameter in last.parameters():
        nn.init.zeros_(parameter)


def _rows_by_name(names: Sequence[int]) -> list[list[int]]:
    """Return the rows of each name."""
    rows: list[list[int]] = [[] for _ in range(max(names) + 1)]
    for row, name in enumerate(names):
        rows[name].append(row)
    return rows


def _sample_variant(meanings: Tensor, rng: np.random.Generator) -> Tensor:
    """Return the meaning of the name itself or, half of the time, of a random variant."""
    return meanings[0 if rng.random() < 0.5 else int(rng.integers(len(meanings)))]

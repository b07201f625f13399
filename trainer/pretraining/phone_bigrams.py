"""Fits the matrix from pairs of phones to vectors: `python -m trainer pairs`.

What the frames hear of a recording is full of doubt, what its transcript says is certain. The matrix is fitted so that
the two give the same vector, and other transcripts another one. The frames stay as they are, and are heard once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm, trange

from clara_search.audio.mel import log_mel
from clara_search.errors import ConfigError
from clara_search.models.batching import padding_mask
from clara_search.models.clara.phone_head import PhoneHead, expected_phone_bigrams
from clara_search.models.clara.towers import Clara
from trainer.config.loss import LossConfig
from trainer.data.corpus import Corpus
from trainer.losses.contrastive import contrastive_loss
from trainer.phones.bigrams import known_phone_bigrams

log = logging.getLogger(__name__)

_TOGETHER = 64
DEFAULT_BATCH_SIZE = 512
_SCALE = 20.0


def audio_bigrams(model: Clara, corpus: Corpus, indices: Sequence[int], max_audio_s: float) -> Tensor:
    """Return what `model` counts in recordings of `corpus`, float16, (n, phones * phones + phones)."""
    spoken = _spoken(model)
    longest = round(max_audio_s * corpus.sample_rate)
    counts = torch.empty(len(indices), spoken.num_phones * (spoken.num_phones + 1), dtype=torch.float16)
    order = sorted(range(len(indices)), key=lambda place: corpus.duration_s(indices[place]))
    with torch.inference_mode():
        for at in tqdm(range(0, len(order), _TOGETHER), desc="hearing", unit="batch", disable=None):
            places = order[at : at + _TOGETHER]
            log_mels = [log_mel(corpus.waveform(indices[place])[:longest], model.config.mel) for place in places]
            frames = pad_sequence(log_mels, batch_first=True)
            heard = model.audio.encode_frames(frames, padding_mask([len(one) for one in log_mels]))
            counts[places] = expected_phone_bigrams(*spoken.predict_from_frames(*heard)).half()
    return counts


def text_bigrams(model: Clara, texts: Sequence[Sequence[int]]) -> Tensor:
    """Return the same of texts, given as phones by index."""
    spoken = _spoken(model)
    parts = []
    for at in range(0, len(texts), 256):
        part = [torch.tensor(text) for text in texts[at : at + 256]]
        lengths = torch.tensor([len(text) for text in part])
        parts.append(known_phone_bigrams(pad_sequence(part, batch_first=True), lengths, spoken.num_phones).half())
    return torch.cat(parts)


def fit_bigram_projection(
    model: Clara, heard: Tensor, said: Tensor, groups: Tensor, steps: int, lr: float = 1e-3
) -> list[float]:
    """Fit the matrix of `model` to what was `heard` and `said` (n, pairs); return the loss of each step.

    Rows of equal `groups` (n,) say the same.
    """
    pairs = _spoken(model)
    optimiser = torch.optim.AdamW(pairs.bigram_projection.parameters(), lr=lr, weight_decay=0.01)
    scale = torch.tensor(_SCALE)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for step in trange(steps, desc="fitting", disable=None):
        for group in optimiser.param_groups:
            group["lr"] = lr * (1.0 - step / steps)
        chosen = torch.randint(len(groups), (DEFAULT_BATCH_SIZE,), generator=generator)
        vectors = [F.normalize(pairs.embed_bigrams(some[chosen].float()), dim=1) for some in (heard, said)]
        loss = contrastive_loss(vectors[0], vectors[1], groups[chosen], LossConfig(), scale, scale)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    return losses


def _spoken(model: Clara) -> PhoneHead:
    if model.phone_head is None:
        raise ConfigError("the model has no model.phone_head: there are no pairs of phones to fit")
    return model.phone_head

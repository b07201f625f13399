"""Fits the bigram projection of a phone head: the matrix from expected phone bigrams to embeddings.

The bigrams predicted from a recording are uncertain, those of its transcript are known. The matrix is fitted so that
both have the same embedding and those of other transcripts another one. The audio tower stays as it is, so that every
recording is encoded once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm, trange

from clara_search.audio.mel import log_mel
from clara_search.errors import ConfigError
from clara_search.models.batching import padding_mask
from clara_search.models.clara.phone_head import PhoneHead, expected_phone_bigrams, known_phone_bigrams
from clara_search.models.clara.towers import Clara
from trainer.data.corpus import Corpus
from trainer.losses.cross_entropy import symmetric_cross_entropy

DEFAULT_BATCH_SIZE = 512
_ENCODE_BATCH, _TEXT_BATCH = 64, 256
_LOGIT_SCALE = 15.0
"""Factor of the cosines between the recordings and the transcripts of a batch."""


def audio_bigrams(model: Clara, corpus: Corpus, indices: Sequence[int], max_audio_s: float) -> Tensor:
    """Return the phone bigrams that `model` expects in recordings, cropped to `max_audio_s`.

    Returns:
        (n, phones * phones + phones), float16.

    Raises:
        ConfigError: the model has no phone head.
    """
    phone_head = _phone_head(model)
    max_samples = round(max_audio_s * corpus.sample_rate)
    size = phone_head.num_phones * (phone_head.num_phones + 1)
    bigrams = torch.empty(len(indices), size, dtype=torch.float16)
    order = sorted(range(len(indices)), key=lambda row: corpus.duration_s(indices[row]))
    with torch.inference_mode():
        for start in tqdm(range(0, len(order), _ENCODE_BATCH), desc="encoding", unit="batch", disable=None):
            rows = order[start : start + _ENCODE_BATCH]
            log_mels = [log_mel(corpus.waveform(indices[row])[:max_samples], model.config.mel) for row in rows]
            mask = padding_mask([len(mels) for mels in log_mels])
            frames = model.audio.encode_frames(pad_sequence(log_mels, batch_first=True), mask)
            bigrams[rows] = expected_phone_bigrams(*phone_head.predict_from_frames(*frames)).half()
    return bigrams


def text_bigrams(model: Clara, texts: Sequence[Sequence[int]]) -> Tensor:
    """Return the phone bigrams of texts given as phones by index, in the form of `audio_bigrams`."""
    phone_head = _phone_head(model)
    parts = []
    for start in range(0, len(texts), _TEXT_BATCH):
        phones = [torch.tensor(text) for text in texts[start : start + _TEXT_BATCH]]
        lengths = torch.tensor([len(text) for text in phones])
        parts.append(known_phone_bigrams(pad_sequence(phones, batch_first=True), lengths, phone_head.num_phones).half())
    return torch.cat(parts)


def fit_bigram_projection(
    model: Clara,
    audio: Tensor,
    text: Tensor,
    groups: Tensor,
    steps: int,
    lr: float = 1e-3,
    weights: Tensor | None = None,
) -> list[float]:
    """Fit the bigram projection of a model with AdamW and a contrastive loss.

    The vectors of the transcripts keep their mean length, so that what the towers add to them keeps its share.

    Args:
        model: whose projection is changed in place.
        audio: bigrams of recordings (n, phones * phones + phones).
        text: bigrams of their transcripts, of the same shape.
        groups: (n,) numbers, equal for equal transcripts.
        steps: of `DEFAULT_BATCH_SIZE` pairs each.
        lr: learning rate, decayed linearly to zero.
        weights: (n,) how often each recording is drawn, relative to the others; None: all alike.

    Returns:
        The loss of each step.
    """
    phone_head = _phone_head(model)
    optimiser = torch.optim.AdamW(phone_head.bigram_projection.parameters(), lr=lr, weight_decay=0.01)
    generator = torch.Generator().manual_seed(0)
    odds = torch.ones(len(groups)) if weights is None else weights
    length = _mean_length(phone_head, text)
    losses = []
    for step in trange(steps, desc="fitting", disable=None):
        for group in optimiser.param_groups:
            group["lr"] = lr * (1.0 - step / steps)
        rows = torch.multinomial(odds, DEFAULT_BATCH_SIZE, replacement=True, generator=generator)
        a, t = (F.normalize(phone_head.embed_bigrams(bigrams[rows].float()), dim=1) for bigrams in (audio, text))
        positives = groups[rows][:, None] == groups[rows][None, :]
        loss = symmetric_cross_entropy(a @ t.T * _LOGIT_SCALE, t @ a.T * _LOGIT_SCALE, positives)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    with torch.no_grad():
        phone_head.bigram_projection.weight.mul_(length / _mean_length(phone_head, text))
    return losses


def _mean_length(phone_head: PhoneHead, bigrams: Tensor) -> float:
    """Return the mean length of the vectors of bigrams (n, phones * phones + phones)."""
    with torch.inference_mode():
        lengths = [phone_head.embed_bigrams(some.float()).norm(dim=1) for some in torch.split(bigrams, 1024)]
    return float(torch.cat(lengths).mean())


def _phone_head(model: Clara) -> PhoneHead:
    if model.phone_head is None:
        raise ConfigError("the model has no phone head: add [model.phone_head] to the recipe")
    return model.phone_head

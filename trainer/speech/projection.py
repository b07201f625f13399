"""The third stage: the bigram projection, fitted to what the tower recognises in recordings and in synthetic speech."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from clara_search.audio.mel import log_mel
from clara_search.audio.waveform import Waveform
from clara_search.files.atomic import atomic_path
from clara_search.models.batching import padding_mask
from clara_search.models.clara.phone_head import expected_phone_bigrams
from clara_search.models.clara.towers import Clara
from clara_search.text.normalize import normalize_text
from trainer.data.corpus import Corpus
from trainer.pretraining.phone_bigrams import audio_bigrams, fit_bigram_projection, text_bigrams
from trainer.speech.random_speech import RandomSpeech

log = logging.getLogger(__name__)

MAX_AUDIO_S, MIN_AUDIO_S = 10.0, 0.1
"""Longest part of a recording that is trained on, and the shortest recording."""

_SYNTHETIC_SHARE = 0.25
"""Share of synthetic speech in what the projection is fitted to."""

_SYNTHETIC_SEED = 7
_ENCODE_BATCH = 48


@dataclass(frozen=True)
class Projection:
    """Settings.

    Attributes:
        recordings: Most recordings that are taken.
        synthetic: Synthetic recordings beside them.
        steps: Steps.
    """

    recordings: int
    synthetic: int
    steps: int


def fit_projection(
    model: Clara,
    corpus: Corpus,
    weights: Mapping[int, float],
    phones: Mapping[int, Sequence[int]],
    speech: RandomSpeech | None,
    settings: Projection,
    out: Path,
) -> None:
    """Fit the bigram projection of a model in place.

    Args:
        model: With a phone head.
        corpus: All recordings.
        weights: How often each of those to train on is drawn, by index.
        phones: Phones of each of them; empty for one without a transcript, which is not drawn.
        speech: Synthetic speech; None: there is none.
        settings: Settings.
        out: Folder of the run, which keeps the bigrams.
    """
    spoken = [index for index in weights if phones[index]]
    count = min(settings.recordings, len(spoken))
    chosen = sorted(np.random.default_rng(0).choice(spoken, count, replace=False).tolist())
    audio = cached(out / "bigrams.pt", lambda: audio_bigrams(model, corpus, chosen, MAX_AUDIO_S))
    text = text_bigrams(model, [phones[index] for index in chosen])
    names = [normalize_text(corpus.examples[index].text) for index in chosen]
    odds = torch.tensor([weights[index] for index in chosen])
    odds /= odds.sum()
    if speech is not None:
        made = cached(out / "synthetic.pt", lambda: synthetic_bigrams(model, speech, settings.synthetic))
        audio, text = torch.cat([audio, made[0]]), torch.cat([text, made[1]])
        names += [hashlib.sha256(bigrams.numpy().tobytes()).hexdigest() for bigrams in made[1]]
        synthetic = torch.full((len(made[0]),), _SYNTHETIC_SHARE / len(made[0]))
        odds = torch.cat([odds * (1.0 - _SYNTHETIC_SHARE), synthetic])
    groups = torch.from_numpy(np.unique(names, return_inverse=True)[1])
    losses = fit_bigram_projection(model, audio, text, groups, settings.steps, weights=odds)
    log.info("projection: loss %.3f", float(np.mean(losses[-20:])))


def synthetic_bigrams(model: Clara, speech: RandomSpeech, count: int) -> Tensor:
    """Return the bigrams that a model expects in synthetic recordings, and those of their texts: (2, count, size)."""
    assert model.phone_head is not None
    recordings = list[tuple[Waveform, list[int]]]()
    number = 0
    while len(recordings) < count:
        waveform, phones = speech.sample(np.random.default_rng((_SYNTHETIC_SEED, number)))
        number += 1
        if phones and MIN_AUDIO_S < len(waveform) / model.config.mel.sample_rate < MAX_AUDIO_S:
            recordings.append((waveform, phones))
    recordings.sort(key=lambda recording: len(recording[0]))
    parts = []
    with torch.inference_mode():
        for start in range(0, count, _ENCODE_BATCH):
            mels = [log_mel(waveform, model.config.mel) for waveform, _ in recordings[start : start + _ENCODE_BATCH]]
            mask = padding_mask([len(x) for x in mels])
            frames = model.audio.encode_frames(pad_sequence(mels, batch_first=True), mask)
            parts.append(expected_phone_bigrams(*model.phone_head.predict_from_frames(*frames)).half())
    return torch.stack([torch.cat(parts), text_bigrams(model, [phones for _, phones in recordings])])


def cached(path: Path, compute: Callable[[], Tensor]) -> Tensor:
    """Return the tensor at `path`, computed and stored there first if there is none."""
    if not path.is_file():
        tensor = compute()
        with atomic_path(path) as partial:
            torch.save(tensor, partial)
    return torch.load(path, weights_only=True)  # type: ignore[no-any-return]

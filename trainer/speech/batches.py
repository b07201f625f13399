"""Batches for the training of phone recognition: recordings and synthetic speech, augmented afresh at every step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import IterableDataset

from clara_search.audio.mel import MelConfig, log_mel
from clara_search.audio.waveform import Waveform
from clara_search.models.batching import padding_mask
from trainer.config.augmentation import AugmentConfig
from trainer.data.augmentation import augment, band_limit, equalize, mask_spectrogram, warp_frequencies
from trainer.data.corpus import Corpus
from trainer.speech.random_speech import RandomSpeech


@dataclass(frozen=True)
class RecognitionConfig:
    """Settings of the training.

    Attributes:
        steps: Number of steps.
        batch_s: Seconds of audio in a step of each process, padding included.
        lr: Peak learning rate: after `warmup` steps, until the last two fifths of the steps or minutes, in which it
            falls to zero.
        warmup: See `lr`.
        weight_decay: Of AdamW.
        ema_decay: Of the average of the weights that is kept.
        minutes: Ends the training after so long, however few steps were made, its learning rate at zero; None: steps
            alone do.
        synthetic_every: Every n-th step is of synthetic speech; 0: none is.
        checkpoint_steps: Steps between checkpoints.
        seed: Of everything random.
    """

    steps: int = 3000
    batch_s: float = 25.0
    lr: float = 8e-4
    warmup: int = 200
    weight_decay: float = 0.01
    ema_decay: float = 0.998
    minutes: float | None = None
    synthetic_every: int = 5
    checkpoint_steps: int = 100
    seed: int = 0


AUGMENTATION = AugmentConfig(
    speed_probability=0.5,
    speed=(0.87, 1.15),
    reverb_probability=0.3,
    reverb_s=(0.1, 0.7),
    clip_probability=0.08,
    gain_db=9.0,
    noise_probability=0.3,
    mix_probability=0.25,
    snr_db=(3.0, 30.0),
    band_limit_probability=0.35,
    time_masks=2,
    time_mask_share=0.06,
    frequency_masks=2,
    frequency_mask_bands=10,
)


WARP = (0.85, 1.18)
"""Lowest and highest factor of all frequencies in half of the examples: other lengths of the vocal tract."""

FILTER_DB = 8.0
"""Strength of the random filter in half of the examples: other microphones and rooms."""


class PhoneBatch(NamedTuple):
    """A padded batch.

    Attributes:
        log_mels: (batch, frames, n_mels).
        mask: (batch, frames), true where a frame is not padding.
        phones: (batch, longest) indices of phones, padded.
        lengths: (batch,) number of phones; 0: there is nothing to recognise.
        pooled: (batch, dim) targets of the pooled part of the embedding.
    """

    log_mels: Tensor
    mask: Tensor
    phones: Tensor
    lengths: Tensor
    pooled: Tensor


class PhoneBatches(IterableDataset[PhoneBatch]):
    """The batches of a run from a given step on; a batch depends on seed and step alone.

    Args:
        corpus: All recordings.
        indices: Those to train on.
        weights: How often an epoch draws each.
        phones: Phones of each recording by index; empty for one without a transcript.
        pooled: Targets (n, dim) of the pooled part, by position in `indices`.
        mel: The log-mel of the model.
        config: Settings.
        speech: Synthetic speech for every n-th step.
        first: First step.
    """

    def __init__(
        self,
        corpus: Corpus,
        indices: Sequence[int],
        weights: Sequence[float],
        phones: Mapping[int, Sequence[int]],
        pooled: Tensor,
        mel: MelConfig,
        config: RecognitionConfig,
        speech: RandomSpeech | None,
        first: int = 0,
        max_audio_s: float = 10.0,
    ) -> None:
        self.corpus, self.indices, self.phones, self.pooled = corpus, np.array(indices), phones, pooled
        self.weights, self.config, self.speech, self.first = np.array(weights), config, speech, first
        self.mel, self.longest = mel, round(max_audio_s * corpus.sample_rate)
        self.durations = np.array([min(corpus.duration_s(i), max_audio_s) for i in indices])
        self.backgrounds = [i for i in indices if corpus.examples[i].kind != "speech"]

    def __iter__(self) -> Iterator[PhoneBatch]:
        epoch, batches = -1, list[list[int]]()
        used = 0
        rank, world = rank_and_world()
        for step in range(self.config.steps):
            synthetic = (
                self.speech is not None
                and self.config.synthetic_every
                and (step % self.config.synthetic_every == self.config.synthetic_every - 1)
            )
            rng = np.random.default_rng((self.config.seed, 1, step, rank))
            if synthetic:
                if step >= self.first:
                    yield self._synthetic(rng)
                continue
            if used + world > len(batches):
                epoch, used = epoch + 1, 0
                batches = self._epoch(np.random.default_rng((self.config.seed, 2, epoch)))
            positions = batches[used + rank]
            used += world
            if step >= self.first:
                yield self._recorded(positions, rng)

    def _epoch(self, rng: np.random.Generator) -> list[list[int]]:
        """Return positions in `indices`, in batches of similar length."""
        whole = self.weights.astype(int)
        draws = np.repeat(np.arange(len(self.indices)), whole + (rng.random(len(whole)) < self.weights - whole))
        order = draws[np.argsort(self.durations[draws] * rng.uniform(0.8, 1.25, len(draws)))]
        batches: list[list[int]] = [[]]
        longest = 0.0
        for position in order.tolist():
            longest = max(longest, self.durations[position])
            if batches[-1] and longest * (len(batches[-1]) + 1) > self.config.batch_s:
                batches.append([])
                longest = self.durations[position]
            batches[-1].append(position)
        return [batches[i] for i in rng.permutation(len(batches))]

    def _recorded(self, positions: Sequence[int], rng: np.random.Generator) -> PhoneBatch:
        rows = []
        for position in positions:
            index = int(self.indices[position])
            waveform = self.corpus.waveform(index)[: self.longest]
            speech = bool(self.phones.get(index))
            mels = self._log_mel(waveform, rng, speech)
            rows.append((mels, self.phones.get(index, ()), self.pooled[position]))
        return _collate(rows)

    def _synthetic(self, rng: np.random.Generator) -> PhoneBatch:
        assert self.speech is not None
        rows, longest = list[tuple[Tensor, Sequence[int], Tensor]](), 0.0
        while True:
            waveform, phones = self.speech.sample(rng)
            longest = max(longest, len(waveform) / self.corpus.sample_rate)
            if rows and longest * (len(rows) + 1) > self.config.batch_s:
                return _collate(rows)
            if 0 < len(waveform) <= self.longest and phones:
                rows.append((self._log_mel(waveform, rng, True), phones, torch.zeros(self.pooled.shape[1])))

    def _log_mel(self, waveform: Waveform, rng: np.random.Generator, speech: bool) -> Tensor:
        background = None
        if speech and self.backgrounds and rng.random() < AUGMENTATION.mix_probability:
            background = self.corpus.waveform(self.backgrounds[rng.integers(len(self.backgrounds))])
        mels = log_mel(augment(waveform, self.corpus.sample_rate, AUGMENTATION, rng, background), self.mel)
        if rng.random() < 0.5:
            mels = warp_frequencies(mels, self.mel, float(rng.uniform(*WARP)))
        if rng.random() < 0.5:
            mels = equalize(mels, FILTER_DB, rng)
        if rng.random() < AUGMENTATION.band_limit_probability:
            mels = band_limit(mels, self.mel, rng.uniform(*AUGMENTATION.band_limit_hz))
        return mask_spectrogram(mels, AUGMENTATION, rng)


def _collate(rows: Sequence[tuple[Tensor, Sequence[int], Tensor]]) -> PhoneBatch:
    mels = [row[0] for row in rows]
    phones = [torch.tensor(row[1], dtype=torch.long) for row in rows]
    return PhoneBatch(
        pad_sequence(mels, batch_first=True),
        padding_mask([len(x) for x in mels]),
        pad_sequence(phones, batch_first=True),
        torch.tensor([len(x) for x in phones]),
        torch.stack([row[2] for row in rows]),
    )


def rank_and_world() -> tuple[int, int]:
    """Return the number of this process and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


@contextmanager
def first_process_first() -> Iterator[None]:
    """Let the first process run the block before the others, which then find its files."""
    rank, world = rank_and_world()
    if rank > 0:
        dist.barrier()
    yield
    if rank == 0 and world > 1:
        dist.barrier()

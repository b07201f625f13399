"""Pairs to batches: bucketed by length, augmented afresh each epoch, the same again for the same seed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from clara_search.audio.mel import log_mel
from clara_search.audio.waveform import Waveform
from clara_search.errors import AudioError
from clara_search.text.normalize import normalize_text
from clara_search.text.tokenizer import Tokenizer
from trainer.config.captions import CaptionConfig
from trainer.config.recipe import Recipe, bundled_file
from trainer.data.augmentation import augment, band_limit, blend, mask_spectrogram
from trainer.data.captions import Captions, Generator, Translations
from trainer.data.corpus import Corpus
from trainer.data.sampler import BatchAddress
from trainer.data.targets import Crop, TargetSource

log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """A padded batch of pairs.

    Attributes:
        log_mels: (batch, frames, n_mels).
        audio_mask: (batch, frames), true where a frame is not padding.
        ids: token ids (batch, tokens).
        text_mask: (batch, tokens), true where a token is not padding.
        groups: (batch,) numbers, equal for equal texts.
        indices: (batch,) of the recordings in the corpus.
        targets: of the auxiliary losses, by name; each tensor has shape (batch, ...).
    """

    log_mels: Tensor
    audio_mask: Tensor
    ids: Tensor
    text_mask: Tensor
    groups: Tensor
    indices: Tensor
    targets: Mapping[str, tuple[Tensor, ...]]

    def split(self, size: int) -> list[Batch]:
        """Return the batch in chunks of at most `size` pairs."""
        return [self._rows(slice(start, start + size)) for start in range(0, len(self.ids), size)]

    def _rows(self, rows: slice) -> Batch:
        targets = {name: tuple(x[rows] for x in collated) for name, collated in self.targets.items()}
        tensors = {name: getattr(self, name)[rows] for name in self._fields if name != "targets"}
        return Batch(**tensors, targets=targets)


class SampledPair(NamedTuple):
    """A training pair; `language` is None if the tokenizer is not told it."""

    log_mel: Tensor
    text: str
    language: str | None
    crop: Crop


class PairDataset(Dataset[Batch]):
    """Batches of pairs from a corpus, by their address.

    Args:
        corpus: all recordings of the run.
        indices: the recordings of this split.
        recipe: of the run.
        tokenizer: of the model.
        training: whether pairs are augmented.
        targets: sources of `Batch.targets`.
    """

    def __init__(
        self,
        corpus: Corpus,
        indices: list[int],
        recipe: Recipe,
        tokenizer: Tokenizer,
        training: bool,
        targets: Sequence[TargetSource] = (),
    ) -> None:
        self.corpus, self.recipe, self.tokenizer, self.training = corpus, recipe, tokenizer, training
        self.targets = targets
        self.backgrounds = [i for i in indices if corpus.examples[i].kind != "speech"]
        texts = sorted({normalize_text(corpus.examples[i].text) for i in indices})
        self.group_of = {text: group for group, text in enumerate(texts)}
        captions = recipe.captions
        table = load_translations(captions) if training else None
        generator = Generator(Path(captions.generator)) if captions.generator and training else None
        self.captions = Captions(captions, table, generator)

    def __getitem__(self, address: BatchAddress) -> Batch:
        """Return the batch at `address`; a recording that cannot be read is replaced by another pair of the batch."""
        epoch, draws = address
        sampled: list[tuple[SampledPair, np.random.Generator]] = []
        for index, draw in draws:
            rng = np.random.default_rng((self.recipe.seed, epoch, draw))
            try:
                sampled.append((self.sample(index, rng), rng))
            except AudioError as error:
                log.warning("left out of a batch: %s", error)
        if not sampled:
            raise AudioError(f"none of the {len(draws)} recordings of a batch can be read; see the warnings above")
        sampled += [sampled[0]] * (len(draws) - len(sampled))
        pairs = [pair for pair, _ in sampled]
        ids, text_mask = self.tokenizer.encode(
            [pair.text for pair in pairs],
            [pair.language for pair in pairs],
            self.recipe.model.text.max_positions,
            dropout=self.recipe.tokenizer.dropout if self.training else 0.0,
            rngs=[rng for _, rng in sampled],
        )
        return Batch(
            pad_sequence([pair.log_mel for pair in pairs], batch_first=True),
            pad_sequence([torch.ones(len(pair.log_mel), dtype=torch.bool) for pair in pairs], batch_first=True),
            torch.from_numpy(ids),
            torch.from_numpy(text_mask),
            torch.tensor([self.group_of[normalize_text(pair.crop.example.text)] for pair in pairs]),
            torch.tensor([pair.crop.recording for pair in pairs]),
            {source.name: source.collate([source.targets(pair.crop) for pair in pairs]) for source in self.targets},
        )

    def sample(self, index: int, rng: np.random.Generator) -> SampledPair:
        """Return recording `index` with a text: as they are, or, in training, augmented with numbers from `rng`."""
        waveform, start = self._crop(index, rng)
        mel, example = self.recipe.model.mel, self.corpus.examples[index]
        if not self.training:
            mels = log_mel(waveform, mel)
            return SampledPair(mels, example.text, None, Crop(index, example, start, len(waveform), len(mels)))
        augmented, text, language = self._augment(index, waveform, rng)
        mels, config = log_mel(augmented, mel), self.recipe.augment
        if rng.random() < config.band_limit_probability:
            mels = band_limit(mels, mel, rng.uniform(*config.band_limit_hz))
        crop = Crop(index, example, start, len(waveform), len(mels))
        return SampledPair(mask_spectrogram(mels, config, rng), text, language, crop)

    def sample_waveform(self, index: int, rng: np.random.Generator) -> tuple[Waveform, str]:
        """Return the augmented waveform (samples,) and the text that `sample` makes of recording `index`."""
        waveform, _ = self._crop(index, rng)
        augmented, text, _ = self._augment(index, waveform, rng)
        return augmented, text

    def _augment(self, index: int, waveform: Waveform, rng: np.random.Generator) -> tuple[Waveform, str, str | None]:
        """Return `waveform` of recording `index` augmented, a text for it, and the language for the tokenizer."""
        config, example, background = self.recipe.augment, self.corpus.examples[index], None
        mixable = example.kind == "speech" and bool(self.backgrounds)
        blended = None
        if mixable and rng.random() < config.blend_probability:
            blended = self._background(rng)
            weight = float(rng.uniform(*config.blend_lambda))
            weight = weight if config.blend_lambda_of == "speech" else 1.0 - weight
            waveform = blend(waveform, self.corpus.waveform(blended), weight, rng)
        text, language = self.captions.sample(example, rng, None if blended is None else self.corpus.examples[blended])
        if rng.random() >= self.recipe.captions.language_probability:
            language = None
        if mixable and blended is None and rng.random() < config.mix_probability:
            background = self.corpus.waveform(self._background(rng))
        return augment(waveform, self.corpus.sample_rate, config, rng, background), text, language

    def _background(self, rng: np.random.Generator) -> int:
        return self.backgrounds[rng.integers(len(self.backgrounds))]

    def _crop(self, index: int, rng: np.random.Generator) -> tuple[Waveform, int]:
        """Return at most `data.max_audio_s` of a recording, and its first sample there."""
        waveform = self.corpus.waveform(index)
        longest = round(self.recipe.data.max_audio_s * self.corpus.sample_rate)
        if len(waveform) <= longest:
            return waveform, 0
        start = int(rng.integers(len(waveform) - longest + 1)) if self.training else 0
        return waveform[start : start + longest], start


def load_translations(config: CaptionConfig) -> Translations | None:
    """Return the table of `captions.translations`; None if it is "". Raises FormatError for a broken one."""
    return Translations.load(bundled_file(config.translations)) if config.translations else None

"""Pairs to batches: bucketed by length, augmented afresh each epoch, the same again for the same seed."""

from __future__ import annotations

import logging
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
from trainer.data.teachers import SAMPLES_PER_FRAME, TeacherFrames, TeacherTexts
from trainer.phones.g2p import PhoneTargets

log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """Pairs, padded: log_mels (batch, frames, n_mels), ids (batch, tokens), their masks, groups (batch,) of texts.

    And, where a recipe asks for them, phones (batch, longest) with their lengths (batch,), what a teacher heard (batch,
    frames of the tower, its frames in one, dim), and a teacher's vectors of the texts (batch, dim). `indices` (batch,)
    says which recordings of the corpus they are.
    """

    log_mels: Tensor
    audio_mask: Tensor
    ids: Tensor
    text_mask: Tensor
    groups: Tensor
    indices: Tensor
    phones: Tensor
    phone_lengths: Tensor
    taught: Tensor
    taught_texts: Tensor

    def audio_frames(self, stride: int) -> Tensor:
        """Return how many frames all recordings have together behind a tower of `stride`."""
        return (self.audio_mask.sum(dim=1) + stride - 1).div(stride, rounding_mode="floor").sum()


class AuxiliaryTargets(NamedTuple):
    """What the auxiliary losses of a run compare with; None for one that it does without."""

    phones: PhoneTargets | None = None
    taught: TeacherFrames | None = None
    texts: TeacherTexts | None = None


class SampledPair(NamedTuple):
    """A pair as it is trained on."""

    log_mel: Tensor
    text: str
    language: str | None
    taught: Tensor


class PairDataset(Dataset[Batch]):
    """Batches of pairs from a corpus, by their address; augmented when `training`."""

    def __init__(
        self,
        corpus: Corpus,
        indices: list[int],
        recipe: Recipe,
        tokenizer: Tokenizer,
        training: bool,
        aids: AuxiliaryTargets | None = None,
    ) -> None:
        self.corpus, self.recipe, self.tokenizer, self.training = corpus, recipe, tokenizer, training
        self.aids = aids or AuxiliaryTargets()
        self.backgrounds = [i for i in indices if corpus.examples[i].kind != "speech"]
        texts = sorted({normalize_text(corpus.examples[i].text) for i in indices})
        self.group_of = {text: group for group, text in enumerate(texts)}
        captions = recipe.captions
        table = load_translations(captions) if training else None
        generator = Generator(Path(captions.generator)) if captions.generator and training else None
        self.captions = Captions(captions, table, generator)

    def __getitem__(self, address: BatchAddress) -> Batch:
        """Return the batch at `address`; what can no longer be read is replaced by another pair of the batch."""
        epoch, draws = address
        drawn: list[tuple[int, SampledPair, np.random.Generator]] = []
        for index, draw in draws:
            rng = np.random.default_rng((self.recipe.seed, epoch, draw))
            try:
                drawn.append((index, self.draw(index, rng), rng))
            except AudioError as error:
                log.warning("left out of a batch: %s", error)
        if not drawn:
            raise AudioError(f"none of the {len(draws)} recordings of a batch can be read; the last errors say why")
        drawn += [drawn[0]] * (len(draws) - len(drawn))
        pairs = [pair for _, pair, _ in drawn]
        examples = [self.corpus.examples[index] for index, _, _ in drawn]
        ids, text_mask = self.tokenizer.encode(
            [pair.text for pair in pairs],
            [pair.language for pair in pairs],
            self.recipe.model.text.max_positions,
            dropout=self.recipe.tokenizer.dropout if self.training else 0.0,
            rngs=[rng for _, _, rng in drawn],
        )
        phones, texts = self.aids.phones, self.aids.texts
        said = [torch.tensor(phones.of(x) if phones else [], dtype=torch.long) for x in examples]
        return Batch(
            pad_sequence([pair.log_mel for pair in pairs], batch_first=True),
            pad_sequence([torch.ones(len(pair.log_mel), dtype=torch.bool) for pair in pairs], batch_first=True),
            torch.from_numpy(ids),
            torch.from_numpy(text_mask),
            torch.tensor([self.group_of[normalize_text(example.text)] for example in examples]),
            torch.tensor([index for index, _, _ in drawn]),
            pad_sequence(said, batch_first=True),
            torch.tensor([len(x) for x in said]),
            pad_sequence([pair.taught for pair in pairs], batch_first=True),
            torch.from_numpy(texts.of(examples)) if texts else torch.empty(0),
        )

    def draw(self, index: int, rng: np.random.Generator) -> SampledPair:
        """Return recording `index` with a text, both as they are, or as `rng` changes them in training."""
        waveform, start = self._cropped(index, rng)
        mel = self.recipe.model.mel
        if not self.training:
            return SampledPair(log_mel(waveform, mel), self.corpus.examples[index].text, None, torch.empty(0))
        changed, text, language = self._changed(index, waveform, rng)
        made, config = log_mel(changed, mel), self.recipe.augment
        if rng.random() < config.band_limit_probability:
            made = band_limit(made, mel, rng.uniform(*config.band_limit_hz))
        return SampledPair(
            mask_spectrogram(made, config, rng), text, language, self._taught(index, start, len(waveform), len(made))
        )

    def sounds_like(self, index: int, rng: np.random.Generator) -> tuple[Waveform, str]:
        """Return what `draw` makes of the waveform, before its log-mel, and the text."""
        waveform, _ = self._cropped(index, rng)
        changed, text, _ = self._changed(index, waveform, rng)
        return changed, text

    def _changed(self, index: int, waveform: Waveform, rng: np.random.Generator) -> tuple[Waveform, str, str | None]:
        """Return `waveform` of recording `index` augmented, a text for it, and the language that is told with it."""
        config, example, behind = self.recipe.augment, self.corpus.examples[index], None
        mixed = example.kind == "speech" and bool(self.backgrounds)
        if mixed and rng.random() < config.blend_probability:
            behind = self._background(rng)
            weight = float(rng.uniform(*config.blend_lambda))
            weight = weight if config.blend_weighs == "speech" else 1.0 - weight
            waveform = blend(waveform, self.corpus.waveform(behind), weight, rng)
        text, language = self.captions.of(example, rng, None if behind is None else self.corpus.examples[behind])
        if rng.random() >= self.recipe.captions.language_probability:
            language = None
        background = None
        if mixed and behind is None and rng.random() < config.mix_probability:
            background = self.corpus.waveform(self._background(rng))
        return augment(waveform, self.corpus.sample_rate, config, rng, background), text, language

    def _background(self, rng: np.random.Generator) -> int:
        return self.backgrounds[rng.integers(len(self.backgrounds))]

    def _cropped(self, index: int, rng: np.random.Generator) -> tuple[Waveform, int]:
        """Return at most the longest stretch that is trained on, and the sample where it begins."""
        waveform = self.corpus.waveform(index)
        longest = round(self.recipe.data.max_audio_s * self.corpus.sample_rate)
        if len(waveform) <= longest:
            return waveform, 0
        start = int(rng.integers(len(waveform) - longest + 1)) if self.training else 0
        return waveform[start : start + longest], start

    def _taught(self, index: int, start: int, samples: int, mel_frames: int) -> Tensor:
        if self.aids.taught is None:
            return torch.empty(0)
        inside = teacher_frames(self.recipe)
        frames = -(-mel_frames // self.recipe.model.audio.stride)
        return torch.from_numpy(self.aids.taught.of(index, start, samples, frames * inside)).view(frames, inside, -1)


def load_translations(config: CaptionConfig) -> Translations | None:
    """Return the table that `config` names; None where it names none. Raises FormatError for a broken one."""
    return Translations.load(bundled_file(config.translations)) if config.translations else None


def teacher_frames(recipe: Recipe) -> int:
    """Return how many frames of a teacher one frame of the audio tower is asked for."""
    mel, audio = recipe.model.mel, recipe.model.audio
    return max(round(mel.hop_length * audio.stride / mel.sample_rate * 16000 / SAMPLES_PER_FRAME), 1)

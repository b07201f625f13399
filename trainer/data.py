"""Recordings and texts to batches: decoded once, split by text, bucketed by length, augmented afresh each epoch."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, Sampler

from clara_search.audio import Waveform, load_audio
from clara_search.datasets.digits import DIGIT_WORDS
from clara_search.datasets.readers import matching, read
from clara_search.datasets.spec import Example
from clara_search.datasets.split import normalise, text_split
from clara_search.errors import AudioError
from clara_search.features import MelConfig, log_mel
from clara_search.tokenizer import Tokenizer
from trainer.augment import AugmentConfig, band_limit, coloured_noise, gain, mask, mix, play_at
from trainer.captions import caption
from trainer.phones import Phones
from trainer.recipe import DataConfig, Recipe

log = logging.getLogger(__name__)


class Corpus:
    """Examples (their audio dropped) and their waveforms, int16 in one memory-mapped file."""

    def __init__(self, examples: list[Example], samples: npt.NDArray[np.int16], offsets: list[int], rate: int) -> None:
        self.examples, self.sample_rate = examples, rate
        self._samples, self._offsets = samples, offsets

    def __len__(self) -> int:
        return len(self.examples)

    def waveform(self, index: int) -> Waveform:
        """Return recording `index` as float32, shape (samples,)."""
        return self._samples[self._offsets[index] : self._offsets[index + 1]].astype(np.float32) / 32768.0

    def duration_s(self, index: int) -> float:
        """Return the length of recording `index` in seconds."""
        return (self._offsets[index + 1] - self._offsets[index]) / self.sample_rate


def load_corpus(patterns: Sequence[str], sample_rate: int, cache: Path) -> Corpus:
    """Decode everything that matches `patterns` once, into `cache`; bad recordings are logged and left out.

    The cache is made anew when the patterns, the rate, or a file's name, size or time change.
    """
    key = _cache_key(patterns, sample_rate)
    folder = cache / key
    if not (folder / "examples.jsonl").exists():
        folder.mkdir(parents=True, exist_ok=True)
        _decode_into(folder, patterns, sample_rate)
    with (folder / "examples.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    offsets = np.cumsum([0, *(row.pop("samples") for row in rows)]).tolist()
    samples = np.memmap(folder / "samples.i16", dtype=np.int16, mode="r")
    return Corpus([Example(audio=b"", **row) for row in rows], samples, offsets, sample_rate)


def _cache_key(patterns: Sequence[str], sample_rate: int) -> str:
    statuses = [(str(path), path.stat()) for pattern in patterns for path in matching(pattern)]
    stats = [(name, status.st_size, status.st_mtime_ns) for name, status in statuses]
    return hashlib.sha256(repr((stats, sample_rate)).encode()).hexdigest()[:16]


def _decode_into(folder: Path, patterns: Sequence[str], sample_rate: int) -> None:
    def decode(example: Example) -> tuple[Example, Waveform | AudioError]:
        try:
            return example, load_audio(example.audio, sample_rate)
        except AudioError as error:
            return example, error

    examples = (example for pattern in patterns for example in read(pattern))
    partial = folder / "examples.partial"
    bad = 0
    with (
        (folder / "samples.i16").open("wb") as samples,
        partial.open("w", encoding="utf-8") as rows,
        ThreadPoolExecutor() as pool,
    ):
        for example, decoded in _bounded_map(pool, decode, examples, ahead=64):
            if isinstance(decoded, AudioError):
                log.warning("left out %s: %s", example.key, decoded)
                bad += 1
                continue
            pcm = (np.clip(decoded, -1.0, 1.0) * 32767.0).astype(np.int16)
            samples.write(pcm.tobytes())
            row = {name: value for name, value in dataclasses.asdict(example).items() if name != "audio"}
            rows.write(json.dumps({**row, "samples": len(pcm)}, ensure_ascii=False) + "\n")
    partial.replace(folder / "examples.jsonl")
    if bad:
        log.warning("%d recordings could not be decoded", bad)


def _bounded_map(pool: ThreadPoolExecutor, function: Any, items: Iterator[Any], ahead: int) -> Iterator[Any]:
    waiting: deque[Any] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


@dataclass(frozen=True)
class Sides:
    """Indices into a corpus, by what they are for; no text of one of the first three stands in another.

    Attributes:
        train: trained on.
        valid: tuned on.
        test: reported: texts that were never trained on, speakers that may have been.
        new_speaker: reported: speakers that were never trained on, nor were their texts.
        digits: reported: recorded digits; the words were trained on with synthetic voices alone.
    """

    train: list[int]
    valid: list[int]
    test: list[int]
    new_speaker: list[int]
    digits: list[int]


def split(corpus: Corpus, config: DataConfig) -> Sides:
    """Put every recording of `corpus` on its side; each side keeps the order of the corpus."""
    sides: dict[str, list[int]] = {"train": [], "valid": [], "test": [], "new_speaker": [], "digits": []}
    for index, example in enumerate(corpus.examples):
        if normalise(example.text) in DIGIT_WORDS and example.source != config.digits_source:
            if example.label and example.label.startswith("digit:"):
                sides["digits"].append(index)
        elif example.speaker in config.held_out_speakers:
            sides["new_speaker"].append(index)
        else:
            sides[text_split(example.text)].append(index)
    trained = {normalise(corpus.examples[index].text) for index in sides["train"]}
    sides["new_speaker"] = [i for i in sides["new_speaker"] if normalise(corpus.examples[i].text) not in trained]
    sides["train"] = [
        index
        for index in sides["train"]
        if corpus.examples[index].kind != "speech" or corpus.duration_s(index) <= config.max_audio_s
    ]
    return Sides(**sides)


def repeated(corpus: Corpus, indices: Sequence[int], config: DataConfig) -> list[int]:
    """Return `indices`, each as often as an epoch has it."""

    def times(example: Example) -> int:
        if example.source == config.digits_source:
            return config.digits_repeats
        return 1 if example.kind == "speech" else config.sound_repeats

    return [index for index in indices for _ in range(times(corpus.examples[index]))]


class Batch(NamedTuple):
    """Pairs, padded: log_mels (batch, frames, n_mels), ids (batch, tokens), their masks, groups (batch,) of texts.

    And, where a recipe asks for them, phones (batch, longest) with their lengths (batch,).
    """

    log_mels: Tensor
    audio_mask: Tensor
    ids: Tensor
    text_mask: Tensor
    groups: Tensor
    phones: Tensor
    phone_lengths: Tensor


class Pairs(Dataset[Batch]):
    """Batches of pairs from a corpus, addressed by (epoch, indices); augmented when `training`."""

    def __init__(
        self,
        corpus: Corpus,
        indices: list[int],
        recipe: Recipe,
        tokenizer: Tokenizer,
        training: bool,
        phones: Phones | None = None,
    ) -> None:
        self.corpus, self.recipe, self.tokenizer, self.training = corpus, recipe, tokenizer, training
        self.phones = phones
        self.backgrounds = [i for i in indices if corpus.examples[i].kind != "speech"]
        texts = sorted({normalise(corpus.examples[i].text) for i in indices})
        self.group_of = {text: group for group, text in enumerate(texts)}

    def __getitem__(self, address: tuple[int, list[int]]) -> Batch:
        """Return the batch of the corpus's `indices`, as they sound in `epoch`."""
        epoch, indices = address
        examples = [self.corpus.examples[index] for index in indices]
        rngs = [np.random.default_rng((self.recipe.seed, epoch, index)) for index in indices]
        log_mels = [self._log_mel(index, rng) for index, rng in zip(indices, rngs, strict=True)]
        texts, languages = self._texts(examples, rngs)
        maximum = self.recipe.model.text.max_positions
        with self.tokenizer.dropout(self.recipe.tokenizer.dropout if self.training else 0.0):
            ids, text_mask = self.tokenizer.encode(texts, languages, maximum)
        said = [torch.tensor(self.phones.of(x) if self.phones else [], dtype=torch.long) for x in examples]
        return Batch(
            pad_sequence(log_mels, batch_first=True),
            pad_sequence([torch.ones(len(x), dtype=torch.bool) for x in log_mels], batch_first=True),
            torch.from_numpy(ids),
            torch.from_numpy(text_mask),
            torch.tensor([self.group_of[normalise(example.text)] for example in examples]),
            pad_sequence(said, batch_first=True),
            torch.tensor([len(x) for x in said]),
        )

    def _texts(self, examples: list[Example], rngs: list[np.random.Generator]) -> tuple[list[str], list[str | None]]:
        if not self.training:
            return [example.text for example in examples], [None] * len(examples)
        config = self.recipe.data
        texts = [caption(x, config.template_probability, rng) for x, rng in zip(examples, rngs, strict=True)]
        languages = [
            x.text_language if rng.random() < config.language_probability else None
            for x, rng in zip(examples, rngs, strict=True)
        ]
        return texts, languages

    def _log_mel(self, index: int, rng: np.random.Generator) -> Tensor:
        waveform = self.corpus.waveform(index)
        longest = round(self.recipe.data.max_audio_s * self.corpus.sample_rate)
        if len(waveform) > longest:
            start = int(rng.integers(len(waveform) - longest + 1)) if self.training else 0
            waveform = waveform[start : start + longest]
        mel: MelConfig = self.recipe.model.mel
        if not self.training:
            return log_mel(waveform, mel)
        config: AugmentConfig = self.recipe.augment
        if rng.random() < config.speed_probability:
            waveform = play_at(waveform, rng.uniform(config.speed[0], config.speed[1]))
        snr_db = float(rng.uniform(config.snr_db[0], config.snr_db[1]))
        if rng.random() < config.noise_probability:
            waveform = mix(waveform, coloured_noise(len(waveform), rng), snr_db, rng)
        elif (
            self.backgrounds and self.corpus.examples[index].kind == "speech" and rng.random() < config.mix_probability
        ):
            background = self.corpus.waveform(self.backgrounds[rng.integers(len(self.backgrounds))])
            waveform = mix(waveform, background, snr_db, rng)
        made = log_mel(gain(waveform, config, rng), mel)
        if rng.random() < config.band_limit_probability:
            made = band_limit(made, mel, rng.uniform(config.band_limit_hz[0], config.band_limit_hz[1]))
        return mask(made, config, rng)


class LengthBuckets(Sampler[tuple[int, list[int]]]):
    """Batches of recordings of similar length, in an order of their own each epoch, the same for the same seed."""

    def __init__(self, corpus: Corpus, indices: list[int], batch_size: int, seed: int, shuffle: bool) -> None:
        self.indices, self.batch_size, self.seed, self.shuffle = np.array(indices), batch_size, seed, shuffle
        self.durations = np.array([corpus.duration_s(index) for index in indices])
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of `epoch`; Lightning calls it before each."""
        self.epoch = epoch

    def __len__(self) -> int:
        whole, rest = divmod(len(self.indices), self.batch_size)
        return whole if self.shuffle else whole + (rest > 0)

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        jitter = rng.uniform(0.5, 2.0, len(self.indices)) if self.shuffle else 1.0
        order = self.indices[np.argsort(self.durations * jitter, kind="stable")]
        starts = np.arange(0, len(order), self.batch_size)
        if self.shuffle:
            # A random remainder is left out, not always the longest recordings.
            spare = len(order) - len(self) * self.batch_size
            order = np.delete(order, rng.choice(len(order), spare, replace=False))
            starts = rng.permutation(len(self)) * self.batch_size
        for start in starts:
            yield self.epoch, order[start : start + self.batch_size].tolist()


def loader(
    corpus: Corpus,
    indices: list[int],
    recipe: Recipe,
    tokenizer: Tokenizer,
    training: bool,
    phones: Phones | None = None,
) -> DataLoader[Batch]:
    """Return batches over `indices`, made in the main process: on a CPU no core is idle that could make them."""
    sampler = LengthBuckets(corpus, indices, recipe.data.batch_size, recipe.seed, shuffle=training)
    return DataLoader(Pairs(corpus, indices, recipe, tokenizer, training, phones), sampler=sampler, batch_size=None)

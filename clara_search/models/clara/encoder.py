"""A CLARA model folder as an Encoder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from clara_search.audio.mel import log_mels
from clara_search.audio.waveform import Waveform
from clara_search.errors import FormatError
from clara_search.models.base import DEFAULT_OPTIONS, LoadOptions
from clara_search.models.batching import (
    TEXT_TOKENS_PER_BATCH,
    batch_budget,
    check_compiler,
    choose_device,
    choose_precision,
    embed_chunks,
    length_batches,
    padding_mask,
    quantize_int8,
    unit_norm,
    validate_texts,
    validate_waveforms,
)
from clara_search.models.clara import checkpoint
from clara_search.models.clara.sound_head import embed_meanings, load_sound_head
from clara_search.models.clara.text_phones import load_pronouncer, pronounced_bigrams
from clara_search.models.clara.yamnet import SAMPLE_RATE as SOUND_SAMPLE_RATE
from clara_search.models.cpu_pool import map_batches, split_budget
from clara_search.text.normalize import normalize_text

AUDIO_TOKENS_PER_BATCH = {"cpu": 1100, "cuda": 65536}
"""Frames after the convolutions, padding included, plus latents, per batch: fits the caches of a CPU, or fills a GPU.

A clip of 10 s has 981 in clara-100m and 134 in clara-small.
"""

_UNLIMITED_SAMPLES = 1 << 62


class ClaraEncoder:
    """Encoder of a CLARA model folder.

    Clips of similar length share a batch, and padding is masked: a vector does not depend on its batch. On a CPU in
    fp32 it is the same to 1e-5, in bf16 to the rounding of that format. In int8, clips are embedded one by one, and
    texts, which gain nothing from int8, in fp32. Case and punctuation of texts do not matter to a model that has
    pronunciation rules.

    Attributes:
        precision: Precision in use, "fp32", "bf16" or "int8".
    """

    def __init__(self, folder: Path, options: LoadOptions = DEFAULT_OPTIONS) -> None:
        self._arguments = (folder, options)
        model, self._tokenizer = checkpoint.load_model(folder)
        self._folder, self._config, self._name = folder, model.config, options.name or model.config.name
        sounds = load_sound_head(folder)
        if sounds and model.config.mel.sample_rate != SOUND_SAMPLE_RATE:
            raise FormatError(f"{folder}: its sound head expects {SOUND_SAMPLE_RATE} Hz, the model another rate")
        self._pronouncer = load_pronouncer(folder, model.config.phone_head)
        self._device = choose_device(options.device)
        self.precision = choose_precision(options.precision, self._device)
        self._dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        self._model = model.to(self._device, self._dtype)
        # The sound head computes in float32 in every precision: it is small, and log-scores need the digits.
        self._sounds = sounds[0].to(self._device) if sounds else None
        self._sound_tokenizer = sounds[1] if sounds else None
        if self.precision == "int8":
            for block in (self._model.audio.cross, *self._model.audio.layers):
                quantize_int8(block)
        self._embed_log_mels, self._embed_tokens = self._model.embed_log_mels, self._model.embed_tokens
        self._is_compiled = options.compile_model
        if self._is_compiled:
            check_compiler(self._device)
            self._embed_log_mels = torch.compile(self._embed_log_mels, dynamic=True)
            self._embed_tokens = torch.compile(self._embed_tokens, dynamic=True)

    @classmethod
    def load(cls, source: str | Path, options: LoadOptions) -> ClaraEncoder:
        """Load the model folder `source`; see `EncoderType.load`."""
        return cls(Path(source), options)

    @classmethod
    def describe(cls, source: str | Path) -> dict[str, Any]:
        """Describe the model folder `source`; see `EncoderType.describe`."""
        return checkpoint.describe(Path(source))

    def __reduce__(self) -> tuple[type[ClaraEncoder], tuple[object, ...]]:
        """Pickle the arguments: another process loads the model again, on a device of its own."""
        return ClaraEncoder, self._arguments

    @property
    def name(self) -> str:
        """The hub id it was loaded by, or the name in its configuration."""
        return self._name

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, over configuration, weights and tokenizer; the same in every precision."""
        return checkpoint.fingerprint(self._folder)

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return self._config.dim + (self._sounds.config.added_dim if self._sounds else 0)

    @property
    def sample_rate(self) -> int:
        """Sample rate in Hz that `encode_audio` expects."""
        return self._config.mel.sample_rate

    @property
    def max_concurrent_calls(self) -> int:
        """Two on a CPU, so that no core idles at the end of a call; else one."""
        return 2 if self._device.type == "cpu" and not self._is_compiled else 1

    def encode_audio(self, waveforms: Sequence[Waveform]) -> npt.NDArray[np.float32]:
        """Embed waveforms.

        A waveform longer than the model has positions for is embedded in chunks, whose vectors are averaged.

        Args:
            waveforms: Mono, each of shape (samples,), at `sample_rate` Hz.

        Returns:
            Unit vectors, shape (n, dim), float32.

        Raises:
            AudioError: A waveform is empty, not mono or not finite.
        """
        return embed_chunks(validate_waveforms(waveforms), self._max_samples, self.dim, self._embed_waveforms)

    @cached_property
    def _max_samples(self) -> int:
        """Samples of the longest waveform that has positions: frame 0 is at sample 0, the next one a hop later."""
        audio = self._config.audio
        if audio.positions == "sinusoidal":
            return _UNLIMITED_SAMPLES
        return (audio.max_positions * audio.stride - 1) * self._config.mel.hop_length

    def _embed_waveforms(self, waveforms: list[Waveform]) -> npt.NDArray[np.float32]:
        vectors = np.empty((len(waveforms), self.dim), dtype=np.float32)
        audio, hop_length = self._config.audio, self._config.mel.hop_length
        sizes = [(1 + len(waveform) // hop_length) // audio.stride + audio.latents for waveform in waveforms]
        budget = 1 if self.precision == "int8" else batch_budget(self._device, AUDIO_TOKENS_PER_BATCH)

        def embed(indices: list[int]) -> None:
            mels = log_mels([waveforms[i] for i in indices], self._config.mel, self._device)
            lengths = [len(mel) for mel in mels]
            # Without a mask, attention takes a faster path; clips of equal length need none.
            mask = None if min(lengths) == max(lengths) else padding_mask(lengths).to(self._device)
            with torch.inference_mode():
                padded = pad_sequence(mels, batch_first=True)
                embedded = self._embed_log_mels(padded.to(self._dtype), mask).float()
                if self._sounds is not None:
                    speech = F.normalize(embedded, dim=-1)
                    embedded = self._sounds.join_audio(speech, [waveforms[i] for i in indices])
                vectors[indices] = unit_norm(embedded)

        if self._is_compiled:  # torch runs a compiled model on all cores by itself
            for indices in length_batches(sizes, budget):
                embed(indices)
        else:
            map_batches(embed, length_batches(sizes, split_budget(sum(sizes), budget, self._device)), self._device)
        return vectors

    def encode_text(self, texts: Sequence[str], language: str | None = None) -> npt.NDArray[np.float32]:
        """Embed texts.

        Args:
            texts: Any strings. A text of more tokens than the model has positions for is truncated.
            language: Language of all texts, a code ("es") or an English name ("Spanish"); None: not known.

        Returns:
            Unit vectors, shape (n, dim), float32.

        Raises:
            QueryError: `texts` is one string, or holds something that is not a Unicode string.
        """
        texts = validate_texts(texts)
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        if not texts:
            return vectors
        plain = texts if self._pronouncer is None else [normalize_text(text) for text in texts]
        ids, mask = self._tokenizer.encode(plain, [language] * len(texts), self._config.text.max_positions)
        lengths = mask.sum(axis=1).tolist()
        with torch.inference_mode():
            for indices in length_batches(lengths, batch_budget(self._device, TEXT_TOKENS_PER_BATCH)):
                longest, some = lengths[indices[0]], [texts[i] for i in indices]
                embedded = self._embed_tokens(
                    torch.from_numpy(ids[indices, :longest]).to(self._device),
                    torch.from_numpy(mask[indices, :longest]).to(self._device),
                    *self._pronounce(some, language),
                )
                vectors[indices] = unit_norm(self._join_meanings(embedded, some))
        return vectors

    def _pronounce(self, texts: Sequence[str], language: str | None) -> tuple[torch.Tensor, ...]:
        """Return the phone bigrams of texts and which of them have any; nothing for a model without rules."""
        if self._pronouncer is None or self._config.phone_head is None:
            return ()
        bigrams = pronounced_bigrams(self._pronouncer, self._config.phone_head.phones, texts, language)
        return tuple(tensor.to(self._device) for tensor in bigrams)

    def _join_meanings(self, speech: torch.Tensor, texts: Sequence[str]) -> torch.Tensor:
        if self._sounds is None or self._sound_tokenizer is None:
            return speech
        ids, words = self._sound_tokenizer.encode(texts)
        meanings = embed_meanings(self._sounds, ids)
        counts = torch.tensor(words, device=meanings.device)
        return self._sounds.join_text(F.normalize(speech.float(), dim=-1), meanings, counts)

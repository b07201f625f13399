"""A CLARA model folder as an Encoder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.utils.rnn import pad_sequence

from clara_search.audio.mel import log_mels
from clara_search.audio.waveform import Waveform
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
from clara_search.models.cpu_pool import cap_batch_budget, map_batches

AUDIO_TOKENS_PER_BATCH = {"cpu": 1100, "cuda": 65536}
"""Padded frames behind the convolutions, and latents, embedded at once: within the caches of a CPU, or enough to fill a
GPU. A clip of 10 s has 981 in clara-100m and 134 in clara-small."""


class ClaraEncoder:
    """Embeds waveforms and texts with the model in `folder`.

    What is of similar length goes together, and padding is hidden: a vector does not depend on its batch. On a CPU in
    fp32 it is the same to 1e-5; in bf16 it is so to the rounding of that format; in int8 clips go one by one, and
    texts, which gain nothing from it, are embedded in fp32.
    """

    def __init__(
        self,
        folder: Path,
        device: str | None = None,
        precision: str = "auto",
        compile_model: bool = False,
        name: str | None = None,
    ) -> None:
        self._arguments = (folder, device, precision, compile_model, name)
        model, self._tokenizer = checkpoint.load_model(folder)
        self._folder, self._config, self._name = folder, model.config, name or model.config.name
        self._device = choose_device(device)
        self.precision = choose_precision(precision, self._device)
        self._dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        self._model = model.to(self._device, self._dtype)
        if self.precision == "int8":
            for block in (self._model.audio.cross, *self._model.audio.layers):
                quantize_int8(block)
        self._embed_log_mels, self._embed_tokens = self._model.embed_log_mels, self._model.embed_tokens
        self._is_compiled = compile_model
        if compile_model:
            check_compiler(self._device)
            self._embed_log_mels = torch.compile(self._embed_log_mels, dynamic=True)
            self._embed_tokens = torch.compile(self._embed_tokens, dynamic=True)

    def __reduce__(self) -> tuple[type[ClaraEncoder], tuple[object, ...]]:
        """Pickle what it was loaded with: another process loads it again, on a device of its own."""
        return ClaraEncoder, self._arguments

    @property
    def name(self) -> str:
        """The hub id, or the name in the configuration."""
        return self._name

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, over configuration, weights and tokenizer; the same in every precision."""
        return checkpoint.fingerprint(self._folder)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._config.dim

    @property
    def sample_rate(self) -> int:
        """Hz that `encode_audio` expects."""
        return self._config.mel.sample_rate

    @property
    def max_concurrent_calls(self) -> int:
        """How many threads may call it, and should: on a CPU, no core is idle then at the end of a call."""
        return 2 if self._device.type == "cpu" and not self._is_compiled else 1

    def encode_audio(self, waveforms: Sequence[Waveform]) -> npt.NDArray[np.float32]:
        """Return unit vectors, shape (n, dim), of mono waveforms at `sample_rate` Hz.

        One that is longer than the model has positions for is cut into parts of that length, whose vectors are
        averaged. Raises AudioError, saying which, for one that is empty, not mono or not finite.
        """
        return embed_chunks(validate_waveforms(waveforms), self._longest, self.dim, self._embed_waveforms)

    @cached_property
    def _longest(self) -> int:
        """The most samples whose frames have positions: frame 0 stands at sample 0, the next a hop later."""
        audio = self._config.audio
        if audio.positions == "sinusoidal":
            return 1 << 62
        return (audio.max_positions * audio.stride - 1) * self._config.mel.hop_length

    def _embed_waveforms(self, waveforms: list[Waveform]) -> npt.NDArray[np.float32]:
        vectors = np.empty((len(waveforms), self.dim), dtype=np.float32)
        audio, hop = self._config.audio, self._config.mel.hop_length
        sizes = [(1 + len(waveform) // hop) // audio.stride + audio.latents for waveform in waveforms]
        budget = 1 if self.precision == "int8" else batch_budget(self._device, AUDIO_TOKENS_PER_BATCH)

        def embed(indices: list[int]) -> None:
            found = log_mels([waveforms[i] for i in indices], self._config.mel, self._device)
            lengths = [len(x) for x in found]
            # Without a mask the attention takes a faster path; clips of one length need none.
            mask = None if min(lengths) == max(lengths) else padding_mask(lengths).to(self._device)
            with torch.inference_mode():
                frames = pad_sequence(found, batch_first=True)
                vectors[indices] = unit_norm(self._embed_log_mels(frames.to(self._dtype), mask))

        if self._is_compiled:  # what torch compiles, it runs on all cores by itself
            for indices in length_batches(sizes, budget):
                embed(indices)
        else:
            map_batches(embed, length_batches(sizes, cap_batch_budget(sum(sizes), budget, self._device)), self._device)
        return vectors

    def encode_text(self, texts: Sequence[str], language: str | None = None) -> npt.NDArray[np.float32]:
        """Return unit vectors, shape (n, dim), of `texts`, in `language` (a code or an English name) where known.

        A text of more tokens than the model has positions for is cut there; an empty one has a vector too.
        """
        texts = validate_texts(texts)
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        if not texts:
            return vectors
        ids, mask = self._tokenizer.encode(texts, [language] * len(texts), self._config.text.max_positions)
        lengths = mask.sum(axis=1).tolist()
        with torch.inference_mode():
            for indices in length_batches(lengths, batch_budget(self._device, TEXT_TOKENS_PER_BATCH)):
                longest = lengths[indices[0]]
                embedded = self._embed_tokens(
                    torch.from_numpy(ids[indices, :longest]).to(self._device),
                    torch.from_numpy(mask[indices, :longest]).to(self._device),
                )
                vectors[indices] = unit_norm(embedded)
        return vectors

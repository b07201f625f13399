"""A CLARA model folder as an Encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from clara_search.audio import Waveform
from clara_search.features import log_mel
from clara_search.models import checkpoint

FRAMES_PER_BATCH = 8192
"""Padded log-mel frames embedded at once: enough to fill two cores, and within their cache."""

TEXTS_PER_BATCH = 64


class ClaraEncoder:
    """Embeds waveforms and texts with the model in `folder`.

    Where the model takes masks, clips of similar length go together and padding is hidden; where it does not (pooling
    over features), only clips of equal length go together. Either way a vector does not depend on its batch.
    """

    def __init__(self, folder: Path, device: str | None = None) -> None:
        model, self._tokenizer = checkpoint.load_model(folder)
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._model = model.to(self._device)
        self._config = model.config
        self._fingerprint = checkpoint.fingerprint(folder)

    @property
    def name(self) -> str:
        """The model's name."""
        return self._config.name

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hex, over configuration, weights and tokenizer."""
        return self._fingerprint

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._config.dim

    @property
    def sample_rate(self) -> int:
        """Hz that `encode_audio` expects."""
        return self._config.mel.sample_rate

    def encode_audio(self, waveforms: Sequence[Waveform]) -> npt.NDArray[np.float32]:
        """Return unit vectors, shape (n, dim), of mono waveforms at `sample_rate` Hz.

        Raises AudioError if one is empty.
        """
        log_mels = [log_mel(waveform, self._config.mel) for waveform in waveforms]
        vectors = np.empty((len(log_mels), self.dim), dtype=np.float32)
        with torch.inference_mode():
            for indices in _by_length([len(x) for x in log_mels], FRAMES_PER_BATCH):
                frames = pad_sequence([log_mels[i] for i in indices], batch_first=True)
                mask = _mask([len(log_mels[i]) for i in indices])
                embedded = self._model.embed_log_mels(frames.to(self._device), mask.to(self._device))
                vectors[indices] = embedded.float().cpu().numpy()
        return vectors

    def encode_text(self, texts: Sequence[str], language: str | None = None) -> npt.NDArray[np.float32]:
        """Return unit vectors, shape (n, dim), of `texts`, in `language` (a code such as "en") where it is known."""
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        maximum = self._config.text.max_positions
        with torch.inference_mode():
            for start in range(0, len(texts), TEXTS_PER_BATCH):
                part = texts[start : start + TEXTS_PER_BATCH]
                ids, mask = self._tokenizer.encode(part, [language] * len(part), maximum)
                embedded = self._model.embed_tokens(
                    torch.from_numpy(ids).to(self._device), torch.from_numpy(mask).to(self._device)
                )
                vectors[start : start + len(part)] = embedded.float().cpu().numpy()
        return vectors


def _mask(lengths: Sequence[int]) -> Tensor:
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def _by_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield batches of indices, longest first, each of at most `budget` units once padded (or of one item)."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch

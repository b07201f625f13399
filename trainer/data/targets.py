"""The interface between data loading and auxiliary losses: the crop of an example, and a source of its targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from clara_search.datasets.example import Example


class Crop(NamedTuple):
    """The part of a recording that a training pair is made of.

    Attributes:
        recording: its index in the corpus.
        example: the recording's metadata.
        start: its first sample in the recording.
        samples: its length in samples, before augmentation.
        mel_frames: the length of its log-mel, after augmentation.
    """

    recording: int
    example: Example
    start: int
    samples: int
    mel_frames: int


class TargetSource(Protocol):
    """A source of targets for a batch, such as an auxiliary loss."""

    @property
    def name(self) -> str:
        """The key of its targets in `Batch.targets`."""

    def targets(self, crop: Crop) -> Any:
        """Return the target of one example."""

    def collate(self, targets: Sequence[Any]) -> tuple[Tensor, ...]:
        """Return the targets of a batch as tensors, each of shape (batch, ...)."""

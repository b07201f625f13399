"""Auxiliary losses against teacher models: a speech recogniser's frames, a sentence encoder's similarities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from clara_search.errors import ConfigError
from clara_search.models.clara.towers import Clara
from trainer.config.recipe import Recipe
from trainer.data.targets import Crop
from trainer.data.teachers import (
    SAMPLE_RATE,
    SAMPLES_PER_FRAME,
    TeacherFrames,
    TeacherTexts,
    compute_teacher_frames,
    compute_teacher_texts,
)
from trainer.losses.auxiliary import AuxiliaryLoss, LossContext, LossSum, Outputs
from trainer.phones.g2p import PhoneTargets


class FrameDistillation(AuxiliaryLoss[Tensor]):
    """Squared error between frames of the audio tower, through a linear layer, and the frames of a Whisper encoder."""

    name: ClassVar[str] = "frame_distillation"
    needs_teacher: ClassVar[bool] = True

    def __init__(self, teacher: TeacherFrames, stride: int, teacher_frames: int) -> None:
        self._teacher, self._stride, self._teacher_frames = teacher, stride, teacher_frames

    @classmethod
    def create(cls, context: LossContext) -> Self:
        """Return the loss against `distill.audio`, whose frames of the corpus are computed once."""
        teacher = compute_teacher_frames(Path(context.recipe.distill.audio), context.corpus)
        return cls(teacher, context.recipe.model.audio.stride, teacher_frames_per_frame(context.recipe))

    def new_head(self, model: Clara) -> nn.Module:
        """Return the linear layer from a frame of the audio tower to the teacher's frames in it."""
        return nn.Linear(model.config.audio.width, self._teacher_frames * self._teacher.dim)

    def targets(self, crop: Crop) -> Tensor:
        """Return the teacher's frames of the crop: (frames of the tower, teacher's frames in one, teacher's width)."""
        frames = -(-crop.mel_frames // self._stride)
        teacher = self._teacher.of(crop.recording, crop.start, crop.samples, frames * self._teacher_frames)
        return torch.from_numpy(teacher).view(frames, self._teacher_frames, -1)

    def collate(self, targets: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the targets padded to (batch, longest, teacher's frames in one, teacher's width)."""
        return (pad_sequence(list(targets), batch_first=True),)

    def loss(self, outputs: Outputs, targets: tuple[Tensor, ...]) -> LossSum:
        """Return the summed squared errors and the number of frames."""
        (teacher,) = targets
        assert self.head is not None
        assert outputs.frames is not None
        assert outputs.mask is not None
        predicted = self.head(outputs.frames).view(*outputs.frames.shape[:2], *teacher.shape[2:])
        return LossSum(frame_distillation_loss(predicted, teacher, outputs.mask), outputs.mask.sum())


class SimilarityDistillation(AuxiliaryLoss[tuple[npt.NDArray[np.float32], bool]]):
    """Squared difference between the cosines of text embeddings and those of a sentence encoder.

    Transcripts whose phones are known are left out: they are to be similar by sound, not by meaning.
    """

    name: ClassVar[str] = "similarity_distillation"
    needs_teacher: ClassVar[bool] = True
    whole_batch: ClassVar[bool] = True

    def __init__(self, teacher: TeacherTexts, phones: PhoneTargets | None) -> None:
        self._teacher, self._phones = teacher, phones

    @classmethod
    def check(cls, recipe: Recipe) -> None:
        """Raise ConfigError if the teacher's folder does not exist."""
        if not Path(recipe.distill.text).is_dir():
            raise ConfigError(f"distill.text: no folder {recipe.distill.text}")

    @classmethod
    def create(cls, context: LossContext) -> Self:
        """Return the loss against `distill.text`, whose embeddings of the training texts are computed once."""
        teacher = compute_teacher_texts(Path(context.recipe.distill.text), context.train, context.corpus.folder)
        return cls(teacher, context.phones)

    def targets(self, crop: Crop) -> tuple[npt.NDArray[np.float32], bool]:
        """Return the teacher's vector (dim,) of the text, and whether the text takes part."""
        has_phones = self._phones is not None and len(self._phones.of(crop.example)) > 0
        return self._teacher.of([crop.example])[0], not has_phones

    def collate(self, targets: Sequence[tuple[npt.NDArray[np.float32], bool]]) -> tuple[Tensor, ...]:
        """Return the vectors (batch, dim), and which of them take part (batch,)."""
        return torch.from_numpy(np.stack([vector for vector, _ in targets])), torch.tensor([x for _, x in targets])

    def loss(self, outputs: Outputs, targets: tuple[Tensor, ...]) -> LossSum:
        """Return the mean squared difference of the batch, as a single term."""
        teacher, included = targets
        total = similarity_distillation_loss(outputs.text[included], teacher[included])
        return LossSum(total, included.new_ones((), dtype=torch.long))


def frame_distillation_loss(frames: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Return the squared errors of `frames`, averaged over features and summed over frames.

    Args:
        frames: (batch, frames, ...).
        teacher: standardised features of the same shape.
        mask: (batch, frames), true where a frame is not padding.
    """
    return (frames - teacher).square().flatten(2).mean(dim=2)[mask].sum()


def similarity_distillation_loss(text: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference between the cosines within `text` and those within `teacher`; 0 for no rows.

    Both are unit vectors (batch, dim); their dimensions may differ.
    """
    if not len(text):
        return text.sum()
    return F.mse_loss(text @ text.T, teacher @ teacher.T)


def teacher_frames_per_frame(recipe: Recipe) -> int:
    """Return how many frames of a Whisper teacher cover one frame of the audio tower."""
    mel, audio = recipe.model.mel, recipe.model.audio
    return max(round(mel.hop_length * audio.stride / mel.sample_rate * SAMPLE_RATE / SAMPLES_PER_FRAME), 1)

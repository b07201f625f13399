"""The auxiliary losses by hand, and their protocol with another implementation in a whole run."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Self

import pytest
import torch
from torch import Tensor, nn

from clara_search.errors import ConfigError
from clara_search.models.clara.towers import Clara
from trainer.config.loss import AUXILIARY_LOSSES
from trainer.config.recipe import Recipe, load_recipe
from trainer.data.targets import Crop
from trainer.losses.auxiliary import AuxiliaryLoss, LossContext, LossSum, Outputs, mean_of_sums
from trainer.losses.distillation import frame_distillation_loss, similarity_distillation_loss
from trainer.losses.phones import phone_ctc_loss
from trainer.pretraining.init import resolve_recipe
from trainer.pretraining.run import pretrain
from trainer.pretraining.setup import Loaders, set_up


def test_the_ctc_loss_is_the_likelihood_of_all_paths_that_spell_the_phones() -> None:
    """By hand: three frames for the phones 1, 2; five paths spell them, 0 is the blank."""
    torch.manual_seed(0)
    logits = torch.randn(1, 4, 3)
    mask = torch.tensor([[True, True, True, False]])
    p = logits[0].softmax(dim=1)
    paths = ((1, 2, 2), (1, 1, 2), (0, 1, 2), (1, 0, 2), (1, 2, 0))
    likelihood = sum(p[0, a] * p[1, b] * p[2, c] for a, b, c in paths)
    loss = phone_ctc_loss(logits, mask, torch.tensor([[1, 2]]), torch.tensor([2]))
    torch.testing.assert_close(loss, -torch.as_tensor(likelihood).log(), atol=1e-6, rtol=0)


def test_recordings_without_phones_or_too_short_for_them_add_nothing_to_the_ctc_loss() -> None:
    torch.manual_seed(0)
    logits, mask = torch.randn(3, 4, 5), torch.ones(3, 4, dtype=torch.bool)
    mask[2, 2:] = False
    alone = phone_ctc_loss(logits[:1], mask[:1], torch.tensor([[1, 2, 3]]), torch.tensor([3]))
    targets, lengths = torch.tensor([[1, 2, 3], [0, 0, 0], [1, 2, 3]]), torch.tensor([3, 0, 3])
    torch.testing.assert_close(phone_ctc_loss(logits, mask, targets, lengths), alone)
    silent = phone_ctc_loss(logits.requires_grad_(), mask, targets[:, :0], torch.zeros(3, dtype=torch.long))
    assert silent == 0
    silent.backward()  # type: ignore[no-untyped-call]


def test_frame_distillation_is_the_mean_squared_error_of_frames_that_are_not_padding() -> None:
    frames, teacher = torch.zeros(2, 3, 2, 4), torch.ones(2, 3, 2, 4)
    teacher[1, 2] = 100.0
    mask = torch.tensor([[True, True, True], [True, True, False]])
    assert mean_of_sums([LossSum(frame_distillation_loss(frames, teacher, mask), mask.sum())]) == 1.0


def test_similarity_distillation_compares_the_cosines_of_two_spaces() -> None:
    text, teacher = torch.eye(3), torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    torch.testing.assert_close(similarity_distillation_loss(text, teacher), torch.tensor(2 / 9))
    assert similarity_distillation_loss(teacher, teacher) == 0.0
    assert similarity_distillation_loss(text[:0], teacher[:0]) == 0.0


def test_the_mean_of_chunks_weighs_them_by_their_terms() -> None:
    parts = [LossSum(torch.tensor(6.0), torch.tensor(2)), LossSum(torch.tensor(0.0), torch.tensor(1))]
    assert mean_of_sums(parts) == 2.0
    assert mean_of_sums([LossSum(torch.tensor(0.0), torch.tensor(0))]) == 0.0


class Duration(AuxiliaryLoss[float]):
    """The tower's frames predict the duration of the crop: another auxiliary loss, with a head of its own."""

    name: ClassVar[str] = "duration"

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate

    @classmethod
    def create(cls, context: LossContext) -> Self:
        return cls(context.corpus.sample_rate)

    def new_head(self, model: Clara) -> nn.Module:
        return nn.Linear(model.config.audio.width, 1)

    def targets(self, crop: Crop) -> float:
        return crop.samples / self._sample_rate

    def collate(self, targets: Sequence[float]) -> tuple[Tensor, ...]:
        return (torch.tensor(targets),)

    def loss(self, outputs: Outputs, targets: tuple[Tensor, ...]) -> LossSum:
        assert self.head is not None
        assert outputs.frames is not None
        errors = self.head(outputs.frames.mean(dim=1))[:, 0] - targets[0]
        return LossSum(errors.square().sum(), torch.tensor(len(errors)))


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [0, 3])
def test_an_auxiliary_loss_is_one_class_and_one_registered_name(
    small: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setitem(AUXILIARY_LOSSES, "duration", f"{__name__}:Duration")
    loss = replace(small.loss, gradcache_chunk=chunk)
    recipe = replace(small, auxiliary={"duration": 0.5}, loss=loss, optim=replace(small.optim, epochs=4, lr=0.05))
    setup = set_up(recipe, tmp_path / "set-up")
    batch = next(iter(Loaders(setup).train_dataloader()))
    torch.testing.assert_close(batch.targets["duration"][0], torch.full((4,), 0.2))
    assert "heads.duration.weight" in dict(setup.module.named_parameters())
    pretrain(recipe, tmp_path / "run")
    logged = [float(row["duration_loss"]) for row in csv.DictReader((tmp_path / "run" / "log.csv").open())]
    assert logged[-1] < logged[0]


def test_an_unknown_auxiliary_loss_and_a_teacher_without_its_loss_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"auxiliary: no loss is called 'x'; there are frame_distillation, phone_ctc"):
        load_recipe(Path("tiny.toml"), ("auxiliary.x=1.0",))
    for override in ("distill.audio=folder", "auxiliary.frame_distillation=1.0"):
        with pytest.raises(ConfigError, match=r"auxiliary\.frame_distillation and distill\.audio need each other"):
            load_recipe(Path("tiny.toml"), (override,))


def test_a_phone_loss_needs_a_phone_head() -> None:
    recipe = load_recipe(Path("tiny.toml"))
    with pytest.raises(ConfigError, match=r"auxiliary\.phone_ctc needs a model with phones: add \[model\.phone_head\]"):
        resolve_recipe(replace(recipe, model=replace(recipe.model, phone_head=None)))

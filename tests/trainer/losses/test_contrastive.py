from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import multiprocessing

from tests.helpers import PARITY
from trainer.config.loss import LossConfig, LossKind
from trainer.losses.contrastive import contrastive_loss
from trainer.losses.distillation import frame_distillation_loss, similarity_distillation_loss
from trainer.losses.phones import phone_loss
from trainer.losses.reduction import mean_of_parts

CLARA = LossConfig()


def test_loss_equals_that_of_the_released_code() -> None:
    stored = {name: torch.from_numpy(array) for name, array in np.load(PARITY / "clara-small-random.npz").items()}
    loss = contrastive_loss(
        stored["audio_embedding"],
        stored["text_embedding"],
        torch.arange(3),
        CLARA,
        stored["audio_scale"],
        stored["text_scale"],
    )
    torch.testing.assert_close(loss, stored["loss"], atol=1e-5, rtol=0)


def test_a_repeated_caption_is_not_its_own_negative() -> None:
    """By hand: items 0 and 1 share a text; each is right for the other, in equal parts."""
    torch.manual_seed(0)
    audio, text = F.normalize(torch.randn(3, 4), dim=1), F.normalize(torch.randn(3, 4), dim=1)
    scales = torch.tensor(7.0), torch.tensor(11.0)
    expected = 0.0
    for scale, similarities in ((scales[0], audio @ text.T), (scales[1], text @ audio.T)):
        log_probabilities = (scale * similarities).log_softmax(dim=1)
        for row, right in enumerate(([0, 1], [0, 1], [2])):
            expected -= float(log_probabilities[row, right].mean()) / 3 / 2
    loss = contrastive_loss(audio, text, torch.tensor([5, 5, 9]), CLARA, *scales)
    torch.testing.assert_close(float(loss), expected, atol=1e-6, rtol=0)


def vectors(rows: int, dim: int = 6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    audio, text = (F.normalize(torch.randn(rows, dim), dim=1) for _ in range(2))
    return audio, text


def test_without_multiple_positives_a_repeated_caption_is_a_negative() -> None:
    audio, text = vectors(3)
    config, scales = LossConfig(multi_positive=False), (torch.tensor(7.0), torch.tensor(11.0))
    loss = contrastive_loss(audio, text, torch.tensor([5, 5, 9]), config, *scales)
    assert loss == contrastive_loss(audio, text, torch.tensor([0, 1, 2]), CLARA, *scales)
    assert loss != contrastive_loss(audio, text, torch.tensor([5, 5, 9]), CLARA, *scales)


def test_infonce_has_one_temperature() -> None:
    audio, text = vectors(4)
    groups, scale = torch.arange(4), torch.tensor(9.0)
    loss = contrastive_loss(audio, text, groups, LossConfig("infonce"), scale, torch.tensor(1.0))
    assert loss == contrastive_loss(audio, text, groups, CLARA, scale, scale)


def test_the_sigmoid_loss_asks_every_pair_yes_or_no() -> None:
    """By hand, as SigLIP writes it: the mean over rows of -log sigmoid(z (t x y + b)), z = 1 for pairs, else -1."""
    audio, text = vectors(3)
    scale, bias = torch.tensor(10.0), torch.tensor(-2.0)
    signs = torch.tensor([[1, 1, -1], [1, 1, -1], [-1, -1, 1]])
    expected = -F.logsigmoid(signs * (scale * audio @ text.T + bias)).sum() / 3
    loss = contrastive_loss(audio, text, torch.tensor([4, 4, 8]), LossConfig("sigmoid"), scale, scale, bias)
    torch.testing.assert_close(loss, expected)


def test_prefixes_are_cut_and_brought_to_unit_norm() -> None:
    audio, text = vectors(5)
    groups, scale = torch.arange(5), torch.tensor(9.0)
    whole = contrastive_loss(audio, text, groups, CLARA, scale, scale)
    cut = contrastive_loss(F.normalize(audio[:, :2]), F.normalize(text[:, :2]), groups, CLARA, scale, scale)
    both = contrastive_loss(audio, text, groups, LossConfig(prefixes=(2,)), scale, scale)
    torch.testing.assert_close(both, (whole + cut) / 2)


@pytest.mark.parametrize("kind", ["clara", "infonce", "sigmoid"])
def test_two_processes_have_the_gradients_of_one_with_the_whole_batch(kind: LossKind, tmp_path: Path) -> None:
    config = LossConfig(kind, prefixes=(3,))
    whole = gradients(0, 1, config)
    multiprocessing.spawn(in_a_group, (2, config, tmp_path), nprocs=2)
    shares = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for name, expected in whole.items():
        torch.testing.assert_close(sum(share[name] for share in shares) / 2, expected, atol=1e-5, rtol=0)


def gradients(rank: int, world: int, config: LossConfig) -> dict[str, torch.Tensor]:
    """Return the gradients of two linear towers, the scales and the bias, for the rows of process `rank`."""
    torch.manual_seed(0)
    inputs, groups = torch.randn(2, 8, 10), torch.tensor([0, 1, 2, 3, 0, 5, 6, 1])
    parameters = {name: (0.3 * torch.randn(10, 6)).requires_grad_() for name in ("audio", "text")}
    parameters |= {
        name: torch.tensor(value, requires_grad=True) for name, value in (("a", 5.0), ("t", 8.0), ("b", -1.0))
    }
    mine = slice(rank * 8 // world, (rank + 1) * 8 // world)
    audio, text = (F.normalize(x[mine] @ parameters[n]) for x, n in zip(inputs, ("audio", "text"), strict=True))
    loss = contrastive_loss(audio, text, groups[mine], config, parameters["a"], parameters["t"], parameters["b"])
    loss.backward()  # type: ignore[no-untyped-call]
    return {name: p.grad if p.grad is not None else torch.zeros_like(p) for name, p in parameters.items()}


def in_a_group(rank: int, world: int, config: LossConfig, folder: Path) -> None:
    store = torch.distributed.FileStore(str(folder / "store"), world)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=world)
    torch.save(gradients(rank, world, config), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_right_pairs_cost_less_than_wrong_ones() -> None:
    ones = torch.eye(4)
    scale, groups = torch.tensor(10.0), torch.arange(4)
    assert contrastive_loss(ones, ones, groups, CLARA, scale, scale) < 0.001
    assert contrastive_loss(ones, ones.roll(1, dims=0), groups, CLARA, scale, scale) > 9


def test_the_loss_of_phones_is_the_likelihood_of_all_ways_to_say_them() -> None:
    """By hand: three frames for the phones 1, 2; five paths spell them, 0 is the blank."""
    torch.manual_seed(0)
    logits = torch.randn(1, 4, 3)
    mask = torch.tensor([[True, True, True, False]])
    p = logits[0].softmax(dim=1)
    paths = ((1, 2, 2), (1, 1, 2), (0, 1, 2), (1, 0, 2), (1, 2, 0))
    likelihood = sum(p[0, a] * p[1, b] * p[2, c] for a, b, c in paths)
    loss = phone_loss(logits, mask, torch.tensor([[1, 2]]), torch.tensor([2]))
    torch.testing.assert_close(loss, -torch.as_tensor(likelihood).log(), atol=1e-6, rtol=0)


def test_recordings_without_phones_or_too_short_for_them_add_nothing_to_the_loss() -> None:
    torch.manual_seed(0)
    logits, mask = torch.randn(3, 4, 5), torch.ones(3, 4, dtype=torch.bool)
    mask[2, 2:] = False
    alone = phone_loss(logits[:1], mask[:1], torch.tensor([[1, 2, 3]]), torch.tensor([3]))
    targets, lengths = torch.tensor([[1, 2, 3], [0, 0, 0], [1, 2, 3]]), torch.tensor([3, 0, 3])
    torch.testing.assert_close(phone_loss(logits, mask, targets, lengths), alone)
    silent = phone_loss(logits.requires_grad_(), mask, targets[:, :0], torch.zeros(3, dtype=torch.long))
    assert silent == 0
    silent.backward()  # type: ignore[no-untyped-call]


def test_what_a_teacher_heard_is_missed_by_the_mean_squared_error_of_the_frames_that_stand() -> None:
    frames, taught = torch.zeros(2, 3, 2, 4), torch.ones(2, 3, 2, 4)
    taught[1, 2] = 100.0
    mask = torch.tensor([[True, True, True], [True, True, False]])
    assert mean_of_parts([frame_distillation_loss(frames, taught, mask)], mask.sum()) == 1.0


def test_texts_should_be_as_like_each_other_as_the_teacher_finds_them() -> None:
    text, taught = torch.eye(3), torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    torch.testing.assert_close(similarity_distillation_loss(text, taught), torch.tensor(2 / 9))
    assert similarity_distillation_loss(taught, taught) == 0.0
    assert similarity_distillation_loss(text[:0], taught[:0]) == 0.0

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, multiprocessing, nn

from clara_search.errors import ConfigError
from tests.helpers import PARITY
from trainer.config.loss import CONTRASTIVE_LOSSES, LossConfig
from trainer.config.recipe import load_recipe
from trainer.losses.contrastive import ContrastiveLoss, new_contrastive_loss


def new_loss(
    kind: str = "clara", audio_scale: float = 10.0, text_scale: float = 10.0, **config: object
) -> ContrastiveLoss:
    """A loss with these scales, as factors."""
    loss = new_contrastive_loss(LossConfig(kind, **config))  # type: ignore[arg-type]
    loss.load_logit_scales(torch.tensor(audio_scale).log(), torch.tensor(text_scale).log())
    return loss


def test_loss_equals_that_of_the_released_code() -> None:
    stored = {name: torch.from_numpy(array) for name, array in np.load(PARITY / "clara-small-random.npz").items()}
    loss = new_loss("clara", float(stored["audio_scale"]), float(stored["text_scale"]))
    value = loss(stored["audio_embedding"], stored["text_embedding"], torch.arange(3))
    torch.testing.assert_close(value, stored["loss"], atol=1e-5, rtol=0)


def test_a_repeated_caption_is_not_its_own_negative() -> None:
    """By hand: items 0 and 1 share a text; each is a positive of the other, in equal parts."""
    torch.manual_seed(0)
    audio, text = F.normalize(torch.randn(3, 4), dim=1), F.normalize(torch.randn(3, 4), dim=1)
    expected = 0.0
    for scale, similarities in ((7.0, audio @ text.T), (11.0, text @ audio.T)):
        log_probabilities = (scale * similarities).log_softmax(dim=1)
        for row, positives in enumerate(([0, 1], [0, 1], [2])):
            expected -= float(log_probabilities[row, positives].mean()) / 3 / 2
    value = new_loss("clara", 7.0, 11.0)(audio, text, torch.tensor([5, 5, 9]))
    torch.testing.assert_close(float(value), expected, atol=1e-6, rtol=0)


def vectors(rows: int, dim: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    audio, text = (F.normalize(torch.randn(rows, dim), dim=1) for _ in range(2))
    return audio, text


def test_without_multiple_positives_a_repeated_caption_is_a_negative() -> None:
    audio, text = vectors(3)
    loss, multi_positive = new_loss(multi_positive=False), new_loss()
    assert loss(audio, text, torch.tensor([5, 5, 9])) == multi_positive(audio, text, torch.tensor([0, 1, 2]))
    assert loss(audio, text, torch.tensor([5, 5, 9])) != multi_positive(audio, text, torch.tensor([5, 5, 9]))


def test_infonce_has_one_logit_scale() -> None:
    audio, text = vectors(4)
    infonce = new_loss("infonce", 9.0, 1.0)
    assert infonce(audio, text, torch.arange(4)) == new_loss("clara", 9.0, 9.0)(audio, text, torch.arange(4))
    assert len(list(infonce.parameters())) == 1


def test_the_sigmoid_loss_is_a_binary_decision_for_every_pair() -> None:
    """By hand, as SigLIP writes it: the mean over rows of -log sigmoid(z (t x y + b)), z = 1 for pairs, else -1."""
    audio, text = vectors(3)
    signs = torch.tensor([[1, 1, -1], [1, 1, -1], [-1, -1, 1]])
    expected = -F.logsigmoid(signs * (10.0 * audio @ text.T - 10.0)).sum() / 3
    torch.testing.assert_close(new_loss("sigmoid")(audio, text, torch.tensor([4, 4, 8])), expected)


def test_matryoshka_dimensions_are_cut_and_brought_to_unit_norm() -> None:
    audio, text = vectors(5)
    groups, loss = torch.arange(5), new_loss()
    full, cut = loss(audio, text, groups), loss(F.normalize(audio[:, :2]), F.normalize(text[:, :2]), groups)
    torch.testing.assert_close(new_loss(matryoshka_dims=(2,))(audio, text, groups), (full + cut) / 2)


@pytest.mark.parametrize("kind", CONTRASTIVE_LOSSES)
def test_logit_scales_are_bounded_and_survive_the_way_through_a_model(kind: str) -> None:
    loss = new_loss(kind, 500.0, 50.0)
    loss.clamp_logit_scales()
    audio, text = (float(scale.exp()) for scale in loss.logit_scales())
    assert audio == pytest.approx(100.0)
    assert text == pytest.approx(50.0 if kind == "clara" else 100.0)
    model = nn.Module()
    model.audio_logit_scale, model.text_logit_scale = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))
    loss.store_logit_scales(model)  # type: ignore[arg-type]
    assert float(model.audio_logit_scale.exp()) == pytest.approx(audio)
    assert float(model.text_logit_scale.exp()) == pytest.approx(text)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clara", "infonce", "sigmoid"])
def test_two_processes_have_the_gradients_of_one_with_the_whole_batch(kind: str, tmp_path: Path) -> None:
    config = LossConfig(kind, matryoshka_dims=(3,))
    whole = gradients(0, 1, config)
    multiprocessing.spawn(in_a_group, (2, config, tmp_path), nprocs=2)
    shares = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for name, expected in whole.items():
        torch.testing.assert_close(sum(share[name] for share in shares) / 2, expected, atol=1e-5, rtol=0)


def gradients(rank: int, world: int, config: LossConfig) -> dict[str, Tensor]:
    """Return the gradients of two linear towers and of the loss's own parameters, for the rows of process `rank`."""
    torch.manual_seed(0)
    inputs, groups = torch.randn(2, 8, 10), torch.tensor([0, 1, 2, 3, 0, 5, 6, 1])
    towers = {name: (0.3 * torch.randn(10, 6)).requires_grad_() for name in ("audio", "text")}
    loss = new_contrastive_loss(config)
    loss.load_logit_scales(torch.tensor(5.0).log(), torch.tensor(8.0).log())
    rows = slice(rank * 8 // world, (rank + 1) * 8 // world)
    audio, text = (F.normalize(x[rows] @ tower) for x, tower in zip(inputs, towers.values(), strict=True))
    loss(audio, text, groups[rows]).backward()
    parameters = {**towers, **dict(loss.named_parameters())}
    return {name: p.grad for name, p in parameters.items() if p.grad is not None}


def in_a_group(rank: int, world: int, config: LossConfig, folder: Path) -> None:
    store = torch.distributed.FileStore(str(folder / "store"), world)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=world)
    torch.save(gradients(rank, world, config), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_correct_pairs_cost_less_than_wrong_ones() -> None:
    ones, loss, groups = torch.eye(4), new_loss(), torch.arange(4)
    assert loss(ones, ones, groups) < 0.001
    assert loss(ones, ones.roll(1, dims=0), groups) > 9


class MarginLoss(ContrastiveLoss):
    """Hinge on the hardest negative of each row: a loss of another kind, with nothing but a class."""

    def __init__(self, config: LossConfig) -> None:
        super().__init__(config)
        self.margin = nn.Parameter(torch.tensor(0.2))

    def pair_loss(self, audio_to_text: Tensor, text_to_audio: Tensor, positives: Tensor) -> Tensor:
        def hinge(cosines: Tensor) -> Tensor:
            hardest = cosines.masked_fill(positives, -1.0).amax(dim=1)
            return (self.margin + hardest - cosines.masked_fill(~positives, 1.0).amin(dim=1)).clamp_min(0.0).mean()

        return hinge(audio_to_text) + hinge(text_to_audio)

    def logit_scales(self) -> tuple[Tensor, Tensor]:
        return torch.zeros(()), torch.zeros(())

    def load_logit_scales(self, audio: Tensor, text: Tensor) -> None:
        pass


def test_a_loss_is_one_class_and_one_registered_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="kind must be one of clara, infonce, sigmoid, got 'margin'"):
        load_recipe(Path("tiny.toml"), ("loss.kind=margin",))
    monkeypatch.setitem(CONTRASTIVE_LOSSES, "margin", f"{__name__}:MarginLoss")
    loss = new_contrastive_loss(load_recipe(Path("tiny.toml"), ("loss.kind=margin",)).loss)
    assert math.isclose(float(loss(torch.eye(3), torch.eye(3), torch.arange(3))), 0.0)
    assert math.isclose(float(loss(torch.eye(3), torch.eye(3).roll(1, 0), torch.arange(3))), 2 * 1.2, rel_tol=1e-6)

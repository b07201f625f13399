from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from trainer.loss import contrastive_loss, phone_loss

PARITY = Path(__file__).parents[1] / "fixtures" / "parity" / "clara-small-random.npz"


def test_loss_equals_that_of_the_released_code() -> None:
    stored = {name: torch.from_numpy(array) for name, array in np.load(PARITY).items()}
    loss = contrastive_loss(
        stored["audio_embedding"],
        stored["text_embedding"],
        stored["audio_scale"],
        stored["text_scale"],
        torch.arange(3),
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
    loss = contrastive_loss(audio, text, *scales, torch.tensor([5, 5, 9]))
    torch.testing.assert_close(float(loss), expected, atol=1e-6, rtol=0)


def test_right_pairs_cost_less_than_wrong_ones() -> None:
    vectors = torch.eye(4)
    scale, groups = torch.tensor(10.0), torch.arange(4)
    assert contrastive_loss(vectors, vectors, scale, scale, groups) < 0.001
    assert contrastive_loss(vectors, vectors.roll(1, dims=0), scale, scale, groups) > 9


def test_the_loss_of_phones_is_the_likelihood_of_all_ways_to_say_them() -> None:
    """By hand: three frames for the phones 1, 2; five paths spell them, 0 is the blank."""
    torch.manual_seed(0)
    logits = torch.randn(1, 4, 3)
    mask = torch.tensor([[True, True, True, False]])
    p = logits[0].softmax(dim=1)
    paths = ((1, 2, 2), (1, 1, 2), (0, 1, 2), (1, 0, 2), (1, 2, 0))
    likelihood = sum(p[0, a] * p[1, b] * p[2, c] for a, b, c in paths)
    loss = phone_loss(logits, mask, torch.tensor([[1, 2]]), torch.tensor([2]))
    torch.testing.assert_close(loss, -torch.as_tensor(likelihood).log() / 2, atol=1e-6, rtol=0)


def test_recordings_without_phones_or_too_short_for_them_add_nothing_to_the_loss() -> None:
    torch.manual_seed(0)
    logits, mask = torch.randn(3, 4, 5), torch.ones(3, 4, dtype=torch.bool)
    mask[2, 2:] = False
    alone = phone_loss(logits[:1], mask[:1], torch.tensor([[1, 2, 3]]), torch.tensor([3]))
    targets, lengths = torch.tensor([[1, 2, 3], [0, 0, 0], [1, 2, 3]]), torch.tensor([3, 0, 3])
    torch.testing.assert_close(phone_loss(logits, mask, targets, lengths), alone / 2)  # per phone asked for
    silent = phone_loss(logits.requires_grad_(), mask, targets[:, :0], torch.zeros(3, dtype=torch.long))
    assert silent == 0
    silent.backward()  # type: ignore[no-untyped-call]

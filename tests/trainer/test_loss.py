from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from trainer.loss import contrastive_loss

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

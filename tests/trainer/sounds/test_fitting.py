"""Fitting a sound head: its space, its classifiers and its corrections."""

import numpy as np
import pytest
import torch

from clara_search.models.clara.yamnet import SAMPLE_RATE
from tests.clara_search.models.clara.test_sound_head import CONFIG, random_head
from trainer.sounds.fitting import (
    Pairs,
    balanced,
    fit_corrections,
    logistic_regression,
    principal_components,
)
from trainer.sounds.recordings import make_noise


def test_principal_components_are_those_of_the_variance() -> None:
    rng = torch.Generator().manual_seed(0)
    rows = torch.randn(500, 3, generator=rng) * torch.tensor([1.0, 5.0, 0.1])
    components = principal_components(rows, 2).abs()
    torch.testing.assert_close(components, torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]), atol=0.05, rtol=0)


def test_logistic_regression_finds_the_log_odds() -> None:
    # 30 of 40 are of class 1 where x is 1, 10 of 40 where it is 0: log-odds of log 3 and -log 3.
    rows = torch.cat([torch.ones(40, 1), torch.zeros(40, 1)])
    labels = torch.tensor([1] * 30 + [0] * 10 + [1] * 10 + [0] * 30)
    layer = logistic_regression(rows, labels, torch.ones(80), 2, decay=0.0)
    odds = layer(torch.tensor([[1.0], [0.0]])) @ torch.tensor([-1.0, 1.0])
    torch.testing.assert_close(odds, torch.tensor([3.0, 1 / 3]).log(), atol=1e-3, rtol=0)


def test_groups_weigh_what_they_are_given() -> None:
    weights = balanced([(4, 1.0), (2, 0.5)])
    assert weights.tolist() == [0.25] * 4 + [0.25] * 2


@pytest.mark.slow
def test_corrections_find_sounds_by_names_that_said_nothing_of_them() -> None:
    head = random_head()
    rng = torch.Generator().manual_seed(0)
    names = [number % 8 for number in range(64)]
    centres = torch.randn(8, 521, generator=rng)
    scores = centres[names] + 0.1 * torch.randn(64, 521, generator=rng)
    meanings = torch.nn.functional.normalize(torch.randn(8, 512, generator=rng), dim=-1)
    pairs = Pairs(scores, torch.randn(64, 1024, generator=rng), names, list(meanings[:, None]), head.anchors.clone())

    def hits() -> float:
        with torch.no_grad():
            texts = head.embed_text(meanings, meanings @ head.anchors.T)
            nearest = (head.embed_audio(scores, pairs.features) @ texts.T).argmax(dim=1)
        return float((nearest == torch.tensor(names)).float().mean())

    with torch.no_grad():
        for correction in (head.audio_correction, head.text_correction):
            for parameter in correction[2].parameters():
                parameter.zero_()
    before = hits()
    fit_corrections(head, pairs, epochs=60, seed=0)
    assert before < 0.3 < 0.4 < hits()  # chance 0.125
    assert head.config == CONFIG


@pytest.mark.slow
def test_noise_is_of_every_kind_and_never_beyond_full_scale() -> None:
    clips = make_noise(np.random.default_rng(0), 12)
    assert [clip.dtype for clip in clips] == [np.float32] * 12
    assert all(0.3 <= len(clip) / SAMPLE_RATE <= 8.0 and np.abs(clip).max() <= 1.0 for clip in clips)
    assert any(not clip.any() for clip in make_noise(np.random.default_rng(0), 60))

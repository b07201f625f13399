"""The bigram projection, fitted to the predictions for recordings."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from clara_search.errors import ConfigError
from clara_search.models.clara.towers import Clara
from tests.trainer.pretraining.test_text_pretraining import CONFIG
from trainer.pretraining.phone_bigrams import fit_bigram_projection, text_bigrams


def test_uncertain_predictions_find_their_transcripts_after_fitting() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    texts = [rng.integers(1, 16, rng.integers(4, 9)).tolist() for _ in range(300)]
    model = Clara(CONFIG)
    assert model.phone_head is not None
    text = text_bigrams(model, texts)
    # Every phone is confused with its neighbour half of the time, and there is noise.
    confused = text_bigrams(
        model, [[1 + phone % 15 if rng.random() < 0.5 else phone for phone in text] for text in texts]
    )
    audio = (0.4 * text + 0.6 * confused + 0.5 * torch.rand(text.shape)).half()

    def recall() -> float:
        with torch.inference_mode():
            vectors = [
                torch.nn.functional.normalize(model.phone_head.embed_bigrams(bigrams[200:].float()), dim=1)
                for bigrams in (audio, text)
            ]
        return float(((vectors[1] @ vectors[0].T).argmax(dim=1) == torch.arange(100)).float().mean())

    before = recall()
    losses = fit_bigram_projection(model, audio[:200], text[:200], torch.arange(200), steps=60, lr=5e-3)
    assert losses[-1] < losses[0] / 2
    assert recall() > before + 0.1


def test_a_model_without_a_phone_head_is_refused() -> None:
    with pytest.raises(ConfigError, match="no phone head"):
        text_bigrams(Clara(replace(CONFIG, phone_head=None)), [[1]])


def test_transcripts_keep_their_length_and_recordings_without_weight_are_not_drawn() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = Clara(CONFIG)
    assert model.phone_head is not None
    text = text_bigrams(model, [rng.integers(1, 16, 6).tolist() for _ in range(40)])
    audio = text.clone()
    audio[30:] = float("nan")
    weights = (torch.arange(40) < 30).float()

    def mean_length() -> float:
        with torch.inference_mode():
            return float(model.phone_head.embed_bigrams(text.float()).norm(dim=1).mean())

    before = mean_length()
    losses = fit_bigram_projection(model, audio, text, torch.arange(40), 5, 5e-3, weights)
    assert np.isfinite(losses).all()
    assert mean_length() == pytest.approx(before, rel=1e-3)

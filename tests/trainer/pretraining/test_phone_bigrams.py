"""The matrix from pairs of phones to vectors, fitted to what is heard."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from clara_search.errors import ConfigError
from clara_search.models.clara.towers import Clara
from tests.trainer.pretraining.test_text_pretraining import CONFIG
from trainer.pretraining.phone_bigrams import fit_bigram_projection, text_bigrams


def test_doubtful_hearing_finds_what_was_said_after_fitting() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    texts = [rng.integers(1, 16, rng.integers(4, 9)).tolist() for _ in range(300)]
    model = Clara(CONFIG)
    assert model.phone_head is not None
    said = text_bigrams(model, texts)
    # Every phone is taken for its neighbour half of the time, and much is heard that nobody said.
    confused = text_bigrams(
        model, [[1 + phone % 15 if rng.random() < 0.5 else phone for phone in text] for text in texts]
    )
    heard = (0.4 * said + 0.6 * confused + 0.5 * torch.rand(said.shape)).half()

    def found() -> float:
        with torch.inference_mode():
            vectors = [
                torch.nn.functional.normalize(model.phone_head.embed_bigrams(some[200:].float()), dim=1)
                for some in (heard, said)
            ]
        return float(((vectors[1] @ vectors[0].T).argmax(dim=1) == torch.arange(100)).float().mean())

    before = found()
    losses = fit_bigram_projection(model, heard[:200], said[:200], torch.arange(200), steps=60, lr=5e-3)
    assert losses[-1] < losses[0] / 2
    assert found() > before + 0.1


def test_a_model_without_phones_has_no_pairs() -> None:
    with pytest.raises(ConfigError, match="no phone head"):
        text_bigrams(Clara(replace(CONFIG, phone_head=None)), [[1]])

"""The phone head: counts of phone bigrams, and their part of an embedding."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from clara_search.models.clara.config import AudioTowerConfig, ClaraConfig, TextTowerConfig
from clara_search.models.clara.phone_head import BLANK, SKIP_DECAY, PhoneHeadConfig, expected_phone_bigrams
from clara_search.models.clara.towers import Clara

CERTAIN = 100.0


def certain(slots: list[int], phones: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor([slots]), phones + 1) * CERTAIN


def counted(sequence: list[int], phones: int) -> Tensor:
    """The counts of a sequence of phones, bigram by bigram."""
    bigrams, unigrams = torch.zeros(phones, phones), torch.zeros(phones)
    for index, phone in enumerate(sequence):
        unigrams[phone - 1] += 1
        for distance in range(1, index + 1):
            bigrams[sequence[index - distance] - 1, phone - 1] += SKIP_DECAY ** (distance - 1)
    return torch.cat([bigrams.flatten(), unigrams])


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=400), st.integers(0, 3))
def test_certain_phones_are_counted_bigram_by_bigram(sequence: list[int], pause: int) -> None:
    slots = [BLANK]
    for phone in sequence:
        slots += [phone, phone] + [BLANK] * (1 + pause)  # a phone may last; a blank separates it from the same one
    torch.testing.assert_close(expected_phone_bigrams(certain(slots, 4))[0], counted(sequence, 4), rtol=1e-3, atol=1e-3)


def test_uncertainty_is_spread_over_the_bigrams() -> None:
    logits = torch.tensor([[[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.5, 0.0, 0.5]]]).log()
    bigrams = expected_phone_bigrams(logits)[0, :4].view(2, 2)
    torch.testing.assert_close(bigrams, torch.tensor([[0.0, 0.5], [0.0, 0.0]]), rtol=1e-3, atol=1e-3)


def test_padding_adds_no_phone() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 300, 6)
    padded = torch.cat([logits, torch.randn(1, 40, 6) * 9], dim=1)
    mask = torch.arange(340)[None] < 300
    torch.testing.assert_close(expected_phone_bigrams(padded, mask), expected_phone_bigrams(logits))


def test_counts_have_finite_gradients_through_a_block() -> None:
    logits = (torch.randn(2, 600, 5, generator=torch.Generator().manual_seed(0)) * 20).requires_grad_()
    expected_phone_bigrams(logits).square().sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad.abs().sum() > 0


CONFIG = ClaraConfig(
    "with-phones",
    16,
    audio=AudioTowerConfig(
        width=16, positions="sinusoidal", latents=4, latent_dim=16, latent_layers=0, pooling="latents", hidden=16
    ),
    text=TextTowerConfig(vocab_size=50, positions="sinusoidal", width=16, layers=1, heads=2, proj_dim=16, hidden=16),
    phone_head=PhoneHeadConfig("abc", slots_per_frame=2),
)


def test_the_same_phones_have_the_same_vector_however_fast() -> None:
    torch.manual_seed(0)
    head = Clara(CONFIG).phone_head
    assert head is not None

    def vector(slots: list[int]) -> Tensor:
        return head.embed_bigrams(expected_phone_bigrams(certain(slots, 3)))

    torch.testing.assert_close(vector([0, 1, 1, 1, 0, 2, 2, 0, 0, 3]), vector([1, 2, 3]), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(vector([1, 2, 3]), vector([3, 2, 1]), atol=1e-3)
    assert vector([0, 0, 0]).abs().max() < 1e-6


@torch.inference_mode()
def test_phones_change_the_vector_and_padding_does_not() -> None:
    torch.manual_seed(0)
    model = Clara(CONFIG).eval()
    frames = torch.randn(2, 40, 80)
    mask = torch.arange(40)[None] < torch.tensor([[40], [26]])
    together = model.embed_log_mels(frames, mask)
    alone = model.embed_log_mels(frames[1:, :26])
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-5)
    assert model.phone_head is not None
    torch.nn.init.zeros_(model.phone_head.bigram_projection.weight)
    assert not torch.allclose(model.embed_log_mels(frames[1:, :26]), alone, atol=1e-3)


@torch.inference_mode()
def test_a_token_classifier_adds_bigrams_to_the_vector_of_a_text_and_padding_none() -> None:
    torch.manual_seed(0)
    assert CONFIG.phone_head is not None
    model = Clara(replace(CONFIG, phone_head=replace(CONFIG.phone_head, slots_per_token=3))).eval()
    ids = torch.randint(50, (2, 9))
    mask = torch.arange(9)[None] < torch.tensor([[9], [5]])
    alone = model.embed_tokens(ids[1:, :5])
    torch.testing.assert_close(model.embed_tokens(ids, mask)[1:], alone, rtol=1e-4, atol=1e-5)
    assert model.phone_head is not None
    torch.nn.init.zeros_(model.phone_head.bigram_projection.weight)
    assert not torch.allclose(model.embed_tokens(ids[1:, :5]), alone, atol=1e-3)


@pytest.mark.parametrize(
    "wrong",
    [{"phones": ""}, {"phones": "aa"}, {"slots_per_frame": 0}, {"slots_per_frame": 65}, {"slots_per_token": 65}],
)
def test_settings_out_of_bounds_are_refused(wrong: dict[str, object]) -> None:
    assert CONFIG.phone_head is not None
    with pytest.raises(ValueError, match="must"):
        replace(CONFIG.phone_head, **wrong)

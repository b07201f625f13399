"""The towers against what the released code computed, and the masked variant against lone clips."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from clara_search.audio.mel import MelConfig
from clara_search.models.clara.config import AudioTowerConfig, ClaraConfig, TextTowerConfig
from clara_search.models.clara.convert import load_released
from clara_search.models.clara.towers import Clara
from tests.helpers import PARITY

MASKED = ClaraConfig(
    "masked",
    dim=24,
    mel=MelConfig(16000, n_mels=20),
    audio=AudioTowerConfig(
        width=16,
        conv_strides=(2, 2, 1),
        positions="sinusoidal",
        frame_layers=2,
        frame_feed_forward=32,
        latents=3,
        latent_dim=20,
        cross_heads=2,
        cross_head_dim=8,
        latent_layers=1,
        latent_heads=2,
        latent_head_dim=8,
        pooling="latents",
        hidden=28,
    ),
    text=TextTowerConfig(
        300, "sinusoidal", 64, width=16, layers=2, heads=4, feed_forward=32, pre_norm=True, proj_dim=12
    ),
)


@pytest.fixture(scope="module")
def stored() -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in np.load(PARITY / "clara-small-random.npz").items()}


@pytest.fixture(scope="module")
def released() -> Clara:
    return load_released(PARITY / "clara-small-random.ckpt")


@torch.inference_mode()
def test_text_tower_computes_what_the_released_code_computes(released: Clara, stored: dict[str, torch.Tensor]) -> None:
    torch.testing.assert_close(released.text(stored["tokens"]), stored["text_hidden"], atol=1e-5, rtol=0)
    torch.testing.assert_close(released.embed_tokens(stored["tokens"]), stored["text_embedding"], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_audio_tower_computes_what_the_released_code_computes(released: Clara, stored: dict[str, torch.Tensor]) -> None:
    log_mels = stored["mels"].transpose(1, 2)
    torch.testing.assert_close(released.audio(log_mels), stored["audio_hidden"], atol=1e-5, rtol=0)
    torch.testing.assert_close(released.embed_log_mels(log_mels), stored["audio_embedding"], atol=1e-5, rtol=0)


def test_logit_scales_are_those_of_the_released_code(released: Clara, stored: dict[str, torch.Tensor]) -> None:
    torch.testing.assert_close(released.audio_logit_scale.exp(), stored["audio_scale"], atol=1e-5, rtol=0)
    torch.testing.assert_close(released.text_logit_scale.exp(), stored["text_scale"], atol=1e-5, rtol=0)


def with_convolutions(kernel: int) -> Clara:
    """`MASKED` with random convolutions between its frame layers."""
    model = Clara(replace(MASKED, audio=replace(MASKED.audio, frame_kernel=kernel))).eval()
    for convolution in model.audio.frame_convolutions:
        torch.nn.init.normal_(convolution.mix.weight, std=0.3)
    return model


@torch.inference_mode()
@pytest.mark.parametrize("kernel", [None, 5])
@pytest.mark.parametrize("frames", [1, 2, 7, 64, 129])
def test_a_padded_clip_has_the_vector_of_the_clip_alone(frames: int, kernel: int | None) -> None:
    torch.manual_seed(0)
    model = Clara(MASKED).eval() if kernel is None else with_convolutions(kernel)
    clips = [torch.randn(n, 20) for n in (frames, 200, 33, 1)]
    mask = torch.arange(200) < torch.tensor([len(clip) for clip in clips])[:, None]
    together = model.embed_log_mels(pad_sequence(clips, batch_first=True), mask)
    for clip, vector in zip(clips, together, strict=True):
        torch.testing.assert_close(model.embed_log_mels(clip[None])[0], vector, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_new_convolutions_change_nothing() -> None:
    torch.manual_seed(0)
    plain, frames = Clara(MASKED).eval(), torch.randn(2, 70, 20)
    model = with_convolutions(3)
    model.load_state_dict(plain.state_dict(), strict=False)
    assert (model.embed_log_mels(frames) - plain.embed_log_mels(frames)).abs().max() > 1e-3
    for convolution in model.audio.frame_convolutions:
        torch.nn.init.zeros_(convolution.mix.weight)
    torch.testing.assert_close(model.embed_log_mels(frames), plain.embed_log_mels(frames), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kernel", [0, 4])
def test_a_kernel_without_a_middle_is_an_error(kernel: int) -> None:
    with pytest.raises(ValueError, match="frame_kernel must"):
        replace(MASKED.audio, frame_kernel=kernel)


@torch.inference_mode()
@pytest.mark.parametrize("kernel", [None, 5])
def test_masked_values_do_not_matter(kernel: int | None) -> None:
    torch.manual_seed(0)
    model = Clara(MASKED).eval() if kernel is None else with_convolutions(kernel)
    log_mels, mask = torch.randn(2, 50, 20), torch.arange(50) < torch.tensor([[50], [31]])
    changed = log_mels.clone()
    changed[1, 31:] = 1000.0
    torch.testing.assert_close(model.embed_log_mels(log_mels, mask), model.embed_log_mels(changed, mask))


@torch.inference_mode()
def test_a_padded_text_has_the_vector_of_the_text_alone() -> None:
    torch.manual_seed(0)
    model = Clara(MASKED).eval()
    texts = [torch.randint(300, (n,)) for n in (1, 5, 40)]
    mask = torch.arange(40) < torch.tensor([len(text) for text in texts])[:, None]
    together = model.embed_tokens(pad_sequence(texts, batch_first=True, padding_value=7), mask)
    for text, vector in zip(texts, together, strict=True):
        torch.testing.assert_close(model.embed_tokens(text[None])[0], vector, atol=1e-5, rtol=0)


def test_order_of_tokens_matters() -> None:
    torch.manual_seed(0)
    model = Clara(MASKED).eval()
    forward, backward = model.embed_tokens(torch.tensor([[5, 6, 7], [7, 6, 5]]))
    assert forward @ backward < 0.999


def test_a_text_longer_than_a_learned_table_is_an_error() -> None:
    learned = Clara(ClaraConfig(text=TextTowerConfig(300, max_positions=8, layers=1), audio=MASKED.audio))
    with pytest.raises(ValueError, match="a sequence of 9 is longer than the 8 learned positions"):
        learned.embed_tokens(torch.zeros(1, 9, dtype=torch.long))

import numpy as np
import pytest
import torch

from clara_search.features import MelConfig, log_mel
from trainer.augment import SILENCE, AugmentConfig, band_limit, coloured_noise, gain, mask, mix, play_at

RNG = np.random.default_rng


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * RNG(seed).standard_normal(samples)).astype(np.float32)


@pytest.mark.parametrize("snr_db", [0.0, 12.0])
@pytest.mark.parametrize("background_samples", [500, 16000, 50000])
def test_mixing_keeps_the_asked_for_ratio(snr_db: float, background_samples: int) -> None:
    signal = noise(16000)
    added = mix(signal, noise(background_samples, seed=1), snr_db, RNG(0)) - signal
    assert 10 * np.log10(np.mean(signal**2) / np.mean(added**2)) == pytest.approx(snr_db, abs=0.01)


def test_mixing_with_silence_changes_nothing() -> None:
    signal = noise(100)
    np.testing.assert_array_equal(mix(signal, np.zeros(50, np.float32), 0.0, RNG(0)), signal)


def test_gain_stays_within_its_bounds_and_full_scale() -> None:
    config = AugmentConfig(gain_db=12.0)
    quiet = [np.abs(gain(np.full(8, 0.1, np.float32), config, RNG(seed))).max() for seed in range(200)]
    assert min(quiet) >= 0.1 / 3.99
    assert max(quiet) <= 0.1 * 3.99
    assert max(quiet) > 0.3
    assert np.abs(gain(np.full(8, 0.9, np.float32), config, RNG(2))).max() <= 1.0


@pytest.mark.parametrize("speed", [0.8, 1.0, 1.25])
def test_a_faster_tape_is_shorter_and_higher(speed: float) -> None:
    hz, rate = 400, 16000
    played = play_at(np.sin(2 * np.pi * hz * np.arange(rate) / rate).astype(np.float32), speed)
    assert len(played) == pytest.approx(rate / speed, abs=2)
    spectrum = np.abs(np.fft.rfft(played * np.hanning(len(played))))
    assert np.argmax(spectrum) * rate / len(played) == pytest.approx(hz * speed, abs=2)


@pytest.mark.parametrize("samples", [1, 2, 3, 16001])
def test_noise_has_the_asked_for_length_and_is_finite(samples: int) -> None:
    made = coloured_noise(samples, RNG(0))
    assert made.shape == (samples,)
    assert np.isfinite(made).all()


def test_masks_silence_bands_and_leave_the_rest() -> None:
    config = AugmentConfig(time_masks=1, time_mask_share=0.2, frequency_masks=1, frequency_mask_bands=10)
    log_mel = torch.rand(100, 80)
    masked = mask(log_mel, config, RNG(3))
    changed = masked != log_mel
    assert (masked[changed] == SILENCE).all()
    silent_frames, silent_bands = changed.all(dim=1).sum(), changed.all(dim=0).sum()
    assert silent_frames <= 20
    assert silent_bands <= 10
    assert silent_frames + silent_bands > 0
    assert changed.sum() == silent_frames * 80 + silent_bands * 100 - silent_frames * silent_bands


def test_a_cutoff_silences_the_tone_above_it_and_not_the_one_below() -> None:
    config = MelConfig(sample_rate=16000)
    times = np.arange(16000) / 16000
    low, high = (np.sin(2 * np.pi * hz * times).astype(np.float32) for hz in (1000, 6000))
    limited = band_limit(log_mel(low + high, config), config, 4000.0)
    torch.testing.assert_close(limited.max(), torch.tensor(1.0), atol=0.1, rtol=0)
    assert band_limit(log_mel(high, config), config, 4000.0)[5:-5].max() < -0.2


def test_a_clip_of_one_frame_can_be_masked() -> None:
    assert mask(torch.zeros(1, 80), AugmentConfig(), RNG(0)).shape == (1, 80)

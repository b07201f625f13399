import numpy as np
import pytest
import torch

from clara_search.audio.mel import MelConfig, log_mel
from trainer.config.augmentation import AugmentConfig
from trainer.data.augmentation import (
    SILENCE,
    augment,
    band_limit,
    blend,
    change_speed,
    clip_peaks,
    coloured_noise,
    gain,
    mask_spectrogram,
    mix,
    reverb,
    stretch_time,
)

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
    played = change_speed(np.sin(2 * np.pi * hz * np.arange(rate) / rate).astype(np.float32), speed)
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
    masked = mask_spectrogram(log_mel, config, RNG(3))
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
    assert mask_spectrogram(torch.zeros(1, 80), AugmentConfig(), RNG(0)).shape == (1, 80)


def loudest_hz(waveform: np.ndarray, rate: int = 16000) -> float:
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return float(np.argmax(spectrum) * rate / len(waveform))


@pytest.mark.parametrize(("semitones", "tempo"), [(4.0, 1.0), (-3.0, 1.0), (0.0, 1.25), (2.0, 0.8)])
def test_pitch_and_tempo_change_apart(semitones: float, tempo: float) -> None:
    pytest.importorskip("python_stretch")
    signal = np.sin(2 * np.pi * 400 * np.arange(32000) / 16000).astype(np.float32)
    changed = stretch_time(signal, 16000, semitones, tempo)
    assert len(changed) == pytest.approx(32000 / tempo, abs=2)
    assert loudest_hz(changed) == pytest.approx(400 * 2 ** (semitones / 12), rel=0.02)
    np.testing.assert_array_equal(changed, stretch_time(signal, 16000, semitones, tempo))


@pytest.mark.parametrize("weight", [0.01, 0.5, 0.8])
def test_a_blend_weighs_both_at_one_level(weight: float) -> None:
    speech, sound = noise(8000), 20 * noise(3000, seed=1)
    blended = blend(speech, sound, weight, RNG(0))
    behind = (blended - np.float32(weight) * speech) / (1 - weight)
    assert np.sqrt(np.mean(behind**2)) == pytest.approx(np.sqrt(np.mean(speech**2)), rel=1e-3)
    np.testing.assert_array_equal(blend(speech, np.zeros(9, np.float32), 1.0, RNG(0)), speech)


def test_a_room_echoes_for_as_long_as_asked_and_keeps_the_level() -> None:
    impulse = np.zeros(16000, np.float32)
    impulse[100] = 0.5
    echo = reverb(impulse, 16000, 0.4, RNG(0))
    assert np.mean(echo**2) == pytest.approx(np.mean(impulse**2), rel=1e-4)
    early, late = (np.mean(echo[at : at + 800] ** 2) for at in (900, 900 + 3200))
    assert 10 * np.log10(late / early) == pytest.approx(-30, abs=3)  # 60 dB in 0.4 s: 30 in 0.2
    assert not echo[:100].round(4).any()


def test_clipping_cuts_the_share_asked_for() -> None:
    signal = noise(10000)
    clipped = clip_peaks(signal, 0.05)
    assert np.mean(clipped != signal) == pytest.approx(0.05, abs=0.001)
    np.testing.assert_array_equal(clip_peaks(np.zeros(5, np.float32), 0.5), np.zeros(5))


@pytest.mark.parametrize("samples", [1, 7, 400, 16000])
def test_everything_at_once_gives_a_finite_waveform_also_of_hardly_anything(samples: int) -> None:
    often = {f"{x}_probability": 1.0 for x in ("pitch", "tempo", "speed", "reverb", "clip", "noise")}
    changed = augment(noise(samples), 16000, AugmentConfig(**often), RNG(0), noise(50))
    assert changed.dtype == np.float32
    assert changed.ndim == 1
    assert len(changed) > 0
    assert np.isfinite(changed).all()

import librosa
import numpy as np
import pytest

from clara_search.audio.mel import MIN_POWER, MelConfig, log_mel, log_mels, mel_filters
from clara_search.errors import AudioError
from tests.helpers import PARITY


@pytest.mark.parametrize("sample_rate", [16000, 48000])
def test_log_mel_equals_that_of_the_released_code(sample_rate: int) -> None:
    stored = np.load(PARITY / "clara-logmel.npz")
    computed = log_mel(stored[f"wave_{sample_rate}"], MelConfig(sample_rate=sample_rate)).numpy()
    np.testing.assert_allclose(computed.T, stored[f"logmel_{sample_rate}"], atol=1e-3)


@pytest.mark.parametrize(
    "config", [MelConfig(), MelConfig(16000, n_fft=512, win_length=400, hop_length=160, n_mels=64)]
)
def test_mel_filters_equal_those_of_librosa(config: MelConfig) -> None:
    expected = librosa.filters.mel(sr=config.sample_rate, n_fft=config.n_fft, n_mels=config.n_mels, fmax=config.f_max)
    np.testing.assert_allclose(mel_filters(config), expected.T, atol=1e-7)


def test_log_mel_does_not_change_with_the_level() -> None:
    waveform = np.random.default_rng(0).standard_normal(16000).astype(np.float32) * 0.1
    config = MelConfig(sample_rate=16000)
    np.testing.assert_allclose(log_mel(waveform, config), log_mel(waveform * 5, config), atol=1e-4)


def test_a_tone_is_loudest_in_the_band_that_holds_it() -> None:
    config = MelConfig(sample_rate=16000)
    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32)
    loudest = int(log_mel(tone, config).mean(dim=0).argmax())
    centre_hz = librosa.mel_frequencies(config.n_mels + 2, fmax=config.f_max)[loudest + 1]
    assert abs(centre_hz - 1000) < 50


@pytest.mark.parametrize("samples", [1, 159, 160, 16000])
def test_frames_follow_from_samples(samples: int) -> None:
    config = MelConfig(16000, n_fft=512, win_length=400, hop_length=160)
    assert log_mel(np.ones(samples, np.float32), config).shape == (1 + samples // 160, 80)


@pytest.mark.parametrize("config", [MelConfig(16000), MelConfig(16000, 512, 400, 160, reference_db=0.0)])
def test_many_log_mels_at_once_are_those_of_each_transform_by_itself(config: MelConfig) -> None:
    rng = np.random.default_rng(0)
    waveforms = [rng.standard_normal(samples).astype(np.float32) * 0.1 for samples in (1, 4000, 159, 320, 100_000, 700)]
    window = np.zeros(config.n_fft)
    beside = (config.n_fft - config.win_length) // 2
    window[beside : beside + config.win_length] = 0.5 - 0.5 * np.cos(
        2 * np.pi * np.arange(config.win_length) / config.win_length
    )
    for waveform, computed in zip(waveforms, log_mels(waveforms, config), strict=True):
        padded = np.pad(waveform.astype(np.float64), config.n_fft // 2)
        starts = range(0, len(waveform) + 1, config.hop_length)
        powers = [np.abs(np.fft.rfft(padded[start : start + config.n_fft] * window)) ** 2 for start in starts]
        decibels = 10 * np.log10(np.maximum(np.stack(powers) @ mel_filters(config), MIN_POWER))
        reference = decibels.max() if config.reference_db is None else config.reference_db
        expected = (np.maximum(decibels - reference, config.min_db) + 40) / 40
        np.testing.assert_allclose(computed.numpy(), expected, atol=1e-4)
        np.testing.assert_allclose(computed.numpy(), log_mel(waveform, config).numpy(), atol=1e-6)


def test_silence_is_finite() -> None:
    assert log_mel(np.zeros(1600, np.float32), MelConfig()).isfinite().all()


def test_an_empty_waveform_is_an_error() -> None:
    with pytest.raises(AudioError, match="empty"):
        log_mel(np.zeros(0, np.float32), MelConfig())

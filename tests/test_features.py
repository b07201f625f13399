from pathlib import Path

import librosa
import numpy as np
import pytest

from clara_search.errors import AudioError
from clara_search.features import MelConfig, log_mel, mel_filters

PARITY = Path(__file__).parent / "fixtures" / "parity" / "clara-logmel.npz"


@pytest.mark.parametrize("sample_rate", [16000, 48000])
def test_log_mel_equals_that_of_the_released_code(sample_rate: int) -> None:
    stored = np.load(PARITY)
    computed = log_mel(stored[f"wave_{sample_rate}"], MelConfig(sample_rate=sample_rate)).numpy()
    np.testing.assert_allclose(computed.T, stored[f"logmel_{sample_rate}"], atol=1e-3)


@pytest.mark.parametrize("config", [MelConfig(), MelConfig(16000, n_fft=512, window=400, hop=160, n_mels=64)])
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
    config = MelConfig(16000, n_fft=512, window=400, hop=160)
    assert log_mel(np.ones(samples, np.float32), config).shape == (1 + samples // 160, 80)


def test_silence_is_finite() -> None:
    assert log_mel(np.zeros(1600, np.float32), MelConfig()).isfinite().all()


def test_an_empty_waveform_is_an_error() -> None:
    with pytest.raises(AudioError, match="empty"):
        log_mel(np.zeros(0, np.float32), MelConfig())

"""Decoded waveforms compared with samples that were computed otherwise."""

from __future__ import annotations

import numpy as np
import soxr

from tests.clara_search.audio.decode.files import Samples

RATE = 16_000
MAX_LAG_S = 0.02

_FINER = 8


def expected_at(samples: Samples, rate: int) -> Samples:
    """Return samples of shape (samples,) at the rate of the tests."""
    return samples if rate == RATE else soxr.resample(samples, rate, RATE, quality="HQ").astype(np.float32)


def agreement(decoded: Samples, expected: Samples) -> tuple[float, float]:
    """Return the highest correlation of two waveforms at 16 kHz shifted by at most 0.1 s, and that shift in seconds."""
    length = min(len(decoded), len(expected))
    size = 2 * length
    spectrum = np.fft.rfft(decoded[:length], size) * np.conj(np.fft.rfft(expected[:length], size))
    products = _FINER * np.fft.irfft(spectrum, _FINER * size)  # delays are no whole samples
    lags = np.arange(-_FINER * RATE // 10, _FINER * RATE // 10 + 1)
    best = int(lags[np.argmax(products[lags])])
    shift = round(best / _FINER)
    first, second = decoded[max(0, shift) : length], expected[max(0, -shift) : length]
    norm = np.linalg.norm(first[: len(second)]) * np.linalg.norm(second[: len(first)])
    return float(products[best] / norm), best / _FINER / RATE


def assert_same(decoded: Samples, expected: Samples, length_s: float = 0.01) -> None:
    """Assert that two waveforms have one length, correlate, and that nothing is shifted."""
    assert abs(len(decoded) - len(expected)) <= length_s * RATE
    correlation, lag_s = agreement(decoded, expected)
    assert correlation >= 0.99
    assert abs(lag_s) <= MAX_LAG_S

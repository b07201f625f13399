"""Log-mel spectrograms of waveforms, by the same code in training, indexing and querying.

The mel scale and its area-normalised filters are Slaney's (Auditory Toolbox, 1998), the default of librosa.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

import numpy as np
import numpy.typing as npt
import torch

from clara_search.audio.waveform import Waveform
from clara_search.errors import AudioError
from clara_search.files.limits import FFT_SAMPLES, FRAME_NUMBERS, FRAMES_PER_SECOND

CPU = torch.device("cpu")

_FRAMES_PER_STEP = {"cpu": 512, "cuda": 16384}
"""Few enough for the caches of a CPU; on an accelerator many, as launching a step costs more than computing it."""

MIN_POWER = 1e-10
"""Lower powers are raised to this before the logarithm."""


@dataclass(frozen=True)
class MelConfig:
    """Configuration of a log-mel. The defaults are those of the released CLARA models.

    Attributes:
        sample_rate: Sample rate of the waveform, Hz.
        n_fft: Samples per Fourier transform.
        win_length: Samples of the Hann window, centred in the transform.
        hop_length: Samples from one frame to the next.
        n_mels: Number of mel bands.
        f_max: Upper edge of the highest band, Hz; the lowest band starts at 0 Hz.
        min_db: Lowest level, dB relative to the reference; lower ones are raised to it.
        reference_db: Level that becomes 0 dB; None: that of the loudest band and frame of the clip.
    """

    sample_rate: int = 48000
    n_fft: int = 1024
    win_length: int = 1024
    hop_length: int = 512
    n_mels: int = 80
    f_max: float = 8000.0
    min_db: float = -80.0
    reference_db: float | None = None

    def __post_init__(self) -> None:
        sizes = (self.sample_rate, self.n_fft, self.win_length, self.hop_length, self.n_mels)
        if min(sizes) < 1 or max(sizes) > 1_000_000 or self.n_mels > 1024 or self.win_length > self.n_fft:
            raise ValueError("a log-mel needs positive sizes, n_mels up to 1,024, and win_length up to n_fft")
        FFT_SAMPLES.check(self.n_fft, "a log-mel", ValueError)
        frames = self.sample_rate / self.hop_length
        FRAMES_PER_SECOND.check(frames, "a log-mel", ValueError)
        FRAME_NUMBERS.check(frames * self.n_mels, "a log-mel", ValueError)
        if not (0 < self.f_max <= 1e6 and -1e3 <= self.min_db < 0):
            raise ValueError("a log-mel needs f_max above 0 Hz and min_db below 0 dB")


def log_mel(waveform: Waveform, config: MelConfig, device: torch.device = CPU) -> torch.Tensor:
    """Return the log-mel of a waveform.

    Args:
        waveform: Mono float32, shape (samples,), at `config.sample_rate` Hz.
        config: Settings.
        device: Where it is computed and stays.

    Returns:
        Shape (1 + samples // hop_length, n_mels), float32: dB relative to the reference, scaled (x + 40) / 40. Frames
        are centred and zero-padded.

    Raises:
        AudioError: The waveform is empty.
    """
    return log_mels([waveform], config, device)[0]


def log_mels(waveforms: Sequence[Waveform], config: MelConfig, device: torch.device = CPU) -> list[torch.Tensor]:
    """Return the log-mels of several waveforms, the same numbers as `log_mel` gives, in fewer and larger steps.

    Args:
        waveforms: As in `log_mel`.
        config: Settings.
        device: Where they are computed and stay.

    Returns:
        One log-mel per waveform, as in `log_mel`.

    Raises:
        AudioError: A waveform is empty.
    """
    if not all(map(len, waveforms)):
        raise AudioError("cannot make a log-mel of an empty waveform")
    # All in one array, each padded with zeros of half a transform at both ends, each starting at a multiple of the hop.
    hops = [-(-(len(waveform) + config.n_fft) // config.hop_length) for waveform in waveforms]
    *first_frames, count = accumulate(hops, initial=0)
    samples = np.zeros(count * config.hop_length + config.n_fft, np.float32)
    for waveform, first in zip(waveforms, first_frames, strict=True):
        start = first * config.hop_length + config.n_fft // 2
        samples[start : start + len(waveform)] = waveform
    framed = torch.from_numpy(samples).to(device).as_strided((count, config.n_fft), (config.hop_length, 1))
    window, filters = _window(config, device), _filters(config, device)
    powers = torch.empty(count, config.n_mels, device=device)
    step = _FRAMES_PER_STEP["cpu" if device.type == "cpu" else "cuda"]
    for start in range(0, count, step):
        frames = slice(start, start + step)
        squares = torch.view_as_real(torch.fft.rfft(framed[frames] * window)).square_()
        torch.matmul(squares[..., 0] + squares[..., 1], filters, out=powers[frames])
    decibels = powers.clamp_min_(MIN_POWER).log10_().mul_(10.0)
    mels = [
        decibels[first : first + 1 + len(waveform) // config.hop_length]
        for waveform, first in zip(waveforms, first_frames, strict=True)
    ]
    if config.reference_db is not None:
        decibels.sub_(config.reference_db)
    else:
        for mel in mels:
            mel.sub_(mel.max())
    decibels.clamp_min_(config.min_db).add_(40.0).div_(40.0)
    return mels


@cache
def _window(config: MelConfig, device: torch.device) -> torch.Tensor:
    window, padding = torch.hann_window(config.win_length, device=device), config.n_fft - config.win_length
    return torch.nn.functional.pad(window, (padding // 2, padding - padding // 2))


@cache
def _filters(config: MelConfig, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(mel_filters(config)).to(device)


def mel_filters(config: MelConfig) -> npt.NDArray[np.float32]:
    """Return triangular filters of unit area per Hz, shape (1 + n_fft // 2, n_mels)."""
    bins_hz = np.linspace(0.0, config.sample_rate / 2, 1 + config.n_fft // 2)
    edges_hz = _edges_hz(config)
    low, centre, high = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    rising = (bins_hz[:, None] - low) / (centre - low)
    falling = (high - bins_hz[:, None]) / (high - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return (triangles * (2.0 / (high - low))).astype(np.float32)


def log_mel_statistics(waveform: Waveform, config: MelConfig) -> npt.NDArray[np.float32]:
    """Return mean and standard deviation of each band of a log-mel: a baseline without learning.

    Args:
        waveform: As in `log_mel`.
        config: Settings.

    Returns:
        Shape (2 * n_mels,), float32: the means, then the standard deviations.

    Raises:
        AudioError: The waveform is empty.
    """
    mel = log_mel(waveform, config)
    statistics: npt.NDArray[np.float32] = torch.cat([mel.mean(dim=0), mel.std(dim=0, correction=0)]).numpy()
    return statistics


def mel_center_frequencies_hz(config: MelConfig) -> npt.NDArray[np.float64]:
    """Return the centre of each mel band in Hz, shape (n_mels,)."""
    return _edges_hz(config)[1:-1]


def _edges_hz(config: MelConfig) -> npt.NDArray[np.float64]:
    return _mel_to_hz(np.linspace(0.0, _hz_to_mel(config.f_max), config.n_mels + 2))


# Slaney's scale: linear below 1 kHz (3 mels per 200 Hz), then 27 mels per factor of 6.4.
_LINEAR_HZ = 200.0 / 3.0
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ
_LOG_STEP = np.log(6.4) / 27.0


def _hz_to_mel(hz: float) -> float:
    return float(hz / _LINEAR_HZ if hz < _BREAK_HZ else _BREAK_MEL + np.log(hz / _BREAK_HZ) / _LOG_STEP)


def _mel_to_hz(mels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(mels < _BREAK_MEL, mels * _LINEAR_HZ, _BREAK_HZ * np.exp(_LOG_STEP * (mels - _BREAK_MEL)))

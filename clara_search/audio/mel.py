"""Waveform to log-mel spectrogram: the same code in training, indexing and querying.

The mel scale and its area-normalised filters are Slaney's (Auditory Toolbox, 1998), as librosa's default has them.
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

CPU = torch.device("cpu")

_FRAMES_AT_ONCE = {"cpu": 512, "cuda": 16384}
"""What the caches of a CPU hold; on any accelerator, a step costs more than what is done in it."""

POWER_FLOOR = 1e-10
"""Powers below this count as this, before the logarithm."""


@dataclass(frozen=True)
class MelConfig:
    """How a log-mel is made. The defaults are those of the released CLARA models.

    Attributes:
        sample_rate: Hz of the waveform.
        n_fft: samples in a transform.
        win_length: samples in a Hann window, centred in the transform.
        hop_length: samples from frame to frame.
        n_mels: mel bands.
        f_max: upper edge of the highest band, Hz; the lowest begins at 0.
        min_db: lowest level, relative to the reference.
        reference_db: the level that counts as 0 dB; None: the loudest band of the clip.
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
            raise ValueError("a log-mel needs positive sizes, at most 1,024 mels, and a window no longer than n_fft")
        if not (0 < self.f_max <= 1e6 and -1e3 <= self.min_db < 0):
            raise ValueError("a log-mel needs f_max above 0 Hz and a floor below 0 dB")


def log_mel(waveform: Waveform, config: MelConfig, device: torch.device = CPU) -> torch.Tensor:
    """Return the log-mel of `waveform`, shape (frames, n_mels), dB relative to the reference, scaled (x + 40) / 40.

    Expects mono float32 of shape (samples,) at `config.sample_rate` Hz; gives 1 + samples // hop frames, centred and
    zero-padded. It is computed on `device` and stays there. Raises AudioError if it is empty.
    """
    return log_mels([waveform], config, device)[0]


def log_mels(waveforms: Sequence[Waveform], config: MelConfig, device: torch.device = CPU) -> list[torch.Tensor]:
    """Return the `log_mel` of each of `waveforms`: the same numbers, in fewer and larger steps."""
    if not all(map(len, waveforms)):
        raise AudioError("cannot make a log-mel of an empty waveform")
    # One behind the other, each between zeros of half a transform, and each from a multiple of the hop on.
    hops = [-(-(len(waveform) + config.n_fft) // config.hop_length) for waveform in waveforms]
    *firsts, count = accumulate(hops, initial=0)
    samples = np.zeros(count * config.hop_length + config.n_fft, np.float32)
    for waveform, first in zip(waveforms, firsts, strict=True):
        start = first * config.hop_length + config.n_fft // 2
        samples[start : start + len(waveform)] = waveform
    framed = torch.from_numpy(samples).to(device).as_strided((count, config.n_fft), (config.hop_length, 1))
    window, filters = _window(config, device), _filters(config, device)
    powers = torch.empty(count, config.n_mels, device=device)
    together = _FRAMES_AT_ONCE["cpu" if device.type == "cpu" else "cuda"]
    for start in range(0, count, together):
        some = slice(start, start + together)
        squares = torch.view_as_real(torch.fft.rfft(framed[some] * window)).square_()
        torch.matmul(squares[..., 0] + squares[..., 1], filters, out=powers[some])
    decibels = powers.clamp_min_(POWER_FLOOR).log10_().mul_(10.0)
    found = [
        decibels[first : first + 1 + len(waveform) // config.hop_length]
        for waveform, first in zip(waveforms, firsts, strict=True)
    ]
    if config.reference_db is not None:
        decibels.sub_(config.reference_db)
    else:
        for one in found:
            one.sub_(one.max())
    decibels.clamp_min_(config.min_db).add_(40.0).div_(40.0)
    return found


@cache
def _window(config: MelConfig, device: torch.device) -> torch.Tensor:
    window, beside = torch.hann_window(config.win_length, device=device), config.n_fft - config.win_length
    return torch.nn.functional.pad(window, (beside // 2, beside - beside // 2))


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
    """Return the mean and the standard deviation of each band of the log-mel of `waveform`, shape (2 * n_mels,).

    What recordings differ by before anything is learnt: the baseline of similarity.
    """
    made = log_mel(waveform, config)
    statistics: npt.NDArray[np.float32] = torch.cat([made.mean(dim=0), made.std(dim=0, correction=0)]).numpy()
    return statistics


def mel_center_frequencies_hz(config: MelConfig) -> npt.NDArray[np.float64]:
    """Return the centre of each mel band in Hz, shape (n_mels,)."""
    return _edges_hz(config)[1:-1]


def _edges_hz(config: MelConfig) -> npt.NDArray[np.float64]:
    return _mel_to_hz(np.linspace(0.0, _hz_to_mel(config.f_max), config.n_mels + 2))


# Slaney's scale: linear below 1 kHz (3 mels each 200 Hz), then 27 mels for each factor of 6.4.
_LINEAR_HZ = 200.0 / 3.0
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ
_LOG_STEP = np.log(6.4) / 27.0


def _hz_to_mel(hz: float) -> float:
    return float(hz / _LINEAR_HZ if hz < _BREAK_HZ else _BREAK_MEL + np.log(hz / _BREAK_HZ) / _LOG_STEP)


def _mel_to_hz(mels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(mels < _BREAK_MEL, mels * _LINEAR_HZ, _BREAK_HZ * np.exp(_LOG_STEP * (mels - _BREAK_MEL)))

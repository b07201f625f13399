"""Changes to a recording that leave its meaning alone: gain, noise, other sounds behind it, masking."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from clara_search.audio import Waveform, resample
from clara_search.features import MelConfig, band_centres_hz

SILENCE = -1.0
"""The lowest value of a log-mel: what a mask puts in."""


@dataclass(frozen=True)
class AugmentConfig:
    """How often and how strongly; a probability of 0 leaves a change out.

    Attributes:
        speed_probability: how often a recording is played faster or slower, which moves its pitch too.
        speed: lowest and highest factor.
        gain_db: largest change of level, either way; what passes full scale is clipped, as in a recording.
        noise_probability: how often coloured noise is added.
        mix_probability: how often another recording without speech is laid behind one of speech.
        snr_db: lowest and highest signal-to-noise ratio of both.
        band_limit_probability: how often all above a cutoff is silenced, as a telephone or a low rate does.
        band_limit_hz: lowest and highest cutoff.
        time_masks: masks of up to `time_mask_share` of the frames each.
        time_mask_share: see `time_masks`.
        frequency_masks: masks of up to `frequency_mask_bands` mel bands each.
        frequency_mask_bands: see `frequency_masks`.
    """

    speed_probability: float = 0.0
    speed: tuple[float, ...] = (0.85, 1.18)
    gain_db: float = 12.0
    noise_probability: float = 0.3
    mix_probability: float = 0.2
    snr_db: tuple[float, ...] = (3.0, 30.0)
    band_limit_probability: float = 0.0
    band_limit_hz: tuple[float, ...] = (3000.0, 8000.0)
    time_masks: int = 2
    time_mask_share: float = 0.08
    frequency_masks: int = 2
    frequency_mask_bands: int = 10

    def __post_init__(self) -> None:
        for name in ("speed", "snr_db", "band_limit_hz"):
            bounds = getattr(self, name)
            if len(bounds) != 2 or bounds[0] > bounds[1]:
                raise ValueError(f"{name} takes a lowest and a highest value")


def play_at(waveform: Waveform, speed: float) -> Waveform:
    """Return `waveform`, shape (samples,), as a tape gives it at `speed` times its own: (samples / speed,)."""
    return resample(waveform, 1000, round(1000 / speed))


def gain(waveform: Waveform, config: AugmentConfig, rng: np.random.Generator) -> Waveform:
    """Return `waveform`, shape (samples,), louder or softer, clipped at full scale."""
    factor = 10.0 ** (rng.uniform(-config.gain_db, config.gain_db) / 20.0)
    louder: Waveform = np.clip(waveform * factor, -1.0, 1.0).astype(np.float32)
    return louder


def coloured_noise(samples: int, rng: np.random.Generator) -> Waveform:
    """Return noise of shape (samples,) whose power falls as 1 / f^c, with c drawn from 0 (white) to 2 (brown)."""
    length = 1 << (samples - 1).bit_length()  # a transform of a prime length would take far longer
    spectrum = rng.standard_normal(length // 2 + 1) + 1j * rng.standard_normal(length // 2 + 1)
    spectrum /= np.arange(1, length // 2 + 2) ** (rng.uniform(0.0, 2.0) / 2.0)
    return np.fft.irfft(spectrum, length)[:samples].astype(np.float32)


def mix(waveform: Waveform, background: Waveform, snr_db: float, rng: np.random.Generator) -> Waveform:
    """Return `waveform` with `background` behind it, `snr_db` softer in mean power, from a random place, repeated."""
    start = rng.integers(len(background))
    behind = np.resize(np.roll(background, -start), len(waveform))
    signal, noise = float(np.mean(waveform**2)), float(np.mean(behind**2))
    if signal == 0.0 or noise == 0.0:
        return waveform
    return waveform + behind * np.float32(np.sqrt(signal / noise) * 10.0 ** (-snr_db / 20.0))


def band_limit(log_mel: torch.Tensor, mel: MelConfig, cutoff_hz: float) -> torch.Tensor:
    """Return `log_mel`, shape (frames, n_mels), with the bands silenced whose centre lies above `cutoff_hz`."""
    above = torch.from_numpy(band_centres_hz(mel) > cutoff_hz)
    return log_mel.masked_fill(above, SILENCE)


def mask(log_mel: torch.Tensor, config: AugmentConfig, rng: np.random.Generator) -> torch.Tensor:
    """Return `log_mel`, shape (frames, n_mels), with bands of time and frequency silenced (SpecAugment)."""
    frames, n_mels = log_mel.shape
    masked = log_mel.clone()
    for _ in range(config.time_masks):
        width = int(rng.integers(int(frames * config.time_mask_share) + 1))
        start = int(rng.integers(frames - width + 1))
        masked[start : start + width] = SILENCE
    for _ in range(config.frequency_masks):
        width = int(rng.integers(min(config.frequency_mask_bands, n_mels) + 1))
        start = int(rng.integers(n_mels - width + 1))
        masked[:, start : start + width] = SILENCE
    return masked

"""Augmentation of recordings: pitch, tempo, reverberation, noise, clipping, gain, masking.

None of these changes the meaning of a recording; the blend of speech with a sound does, and so changes its caption.
"""

from __future__ import annotations

import numpy as np
import torch

from clara_search.audio.mel import MelConfig, mel_center_frequencies_hz
from clara_search.audio.resample import resample
from clara_search.audio.waveform import Waveform
from trainer.config.augmentation import AugmentConfig

SILENCE = -1.0
"""The lowest value of a log-mel, which masked parts get."""


def augment(
    waveform: Waveform, sample_rate: int, config: AugmentConfig, rng: np.random.Generator, background: Waveform | None
) -> Waveform:
    """Return `waveform`, shape (samples,), augmented at random.

    Args:
        waveform: mono.
        sample_rate: in Hz.
        config: probabilities and strengths.
        rng: decides both.
        background: mixed in, unless noise is; None for none.
    """
    semitones, tempo = 0.0, 1.0
    if rng.random() < config.pitch_probability:
        semitones = float(rng.uniform(-config.pitch_semitones, config.pitch_semitones))
    if rng.random() < config.tempo_probability:
        tempo = float(rng.uniform(*config.tempo))
    waveform = stretch_time(waveform, sample_rate, semitones, tempo)
    if rng.random() < config.speed_probability:
        waveform = change_speed(waveform, rng.uniform(*config.speed))
    snr_db = float(rng.uniform(*config.snr_db))
    if rng.random() < config.noise_probability:
        waveform = mix(waveform, coloured_noise(len(waveform), rng), snr_db, rng)
    elif background is not None:
        waveform = mix(waveform, background, snr_db, rng)
    if rng.random() < config.reverb_probability:
        waveform = reverb(waveform, sample_rate, float(rng.uniform(*config.reverb_s)), rng)
    if rng.random() < config.clip_probability:
        waveform = clip_peaks(waveform, float(rng.uniform(*config.clip_share)))
    return gain(waveform, config, rng)


def stretch_time(waveform: Waveform, sample_rate: int, semitones: float, tempo: float) -> Waveform:
    """Return `waveform`, shape (samples,), `semitones` higher and `tempo` times as fast: (samples / tempo,).

    Signalsmith Stretch does it, from the PyPI distribution `python-stretch`.
    """
    if semitones == 0.0 and tempo == 1.0:
        return waveform
    import python_stretch

    stretcher = python_stretch.Signalsmith.Stretch()
    stretcher.preset(1, sample_rate)
    stretcher.setTransposeSemitones(semitones)
    stretcher.setTimeFactor(tempo)
    stretched: Waveform = np.asarray(stretcher.process(waveform[None]))[0]
    return stretched if len(stretched) else waveform


def blend(speech: Waveform, sound: Waveform, weight: float, rng: np.random.Generator) -> Waveform:
    """Return `weight` * `speech` + (1 - `weight`) * `sound`, both at the length and the RMS level of `speech`."""
    background = _fit_length(sound, len(speech), rng)
    level, background_level = np.sqrt(np.mean(speech**2)), np.sqrt(np.mean(background**2))
    scaled = background * np.float32(level / background_level) if background_level > 0 else background
    return (np.float32(weight) * speech + np.float32(1.0 - weight) * scaled).astype(np.float32)


def reverb(waveform: Waveform, sample_rate: int, decay_s: float, rng: np.random.Generator) -> Waveform:
    """Return `waveform`, shape (samples,), in a room with a reverberation time (T60) of `decay_s`, at the same level.

    The impulse response is exponentially decaying noise after a direct sound (Moorer, 1979).
    """
    time = np.arange(max(round(decay_s * sample_rate), 1)) / sample_rate
    room = rng.standard_normal(len(time)) * np.exp(-6.9 * time / decay_s)
    room *= rng.uniform(0.2, 1.0) / np.sqrt(np.sum(room**2))
    room[0] = 1.0
    length = 1 << (len(waveform) + len(room) - 1).bit_length()
    wet = np.fft.irfft(np.fft.rfft(waveform, length) * np.fft.rfft(room, length), length)[: len(waveform)]
    level, wet_level = np.sqrt(np.mean(waveform**2)), np.sqrt(np.mean(wet**2))
    return (wet * (level / wet_level if wet_level > 0 else 1.0)).astype(np.float32)


def clip_peaks(waveform: Waveform, share: float) -> Waveform:
    """Return `waveform`, shape (samples,), clipped so that `share` of its samples are."""
    bound = np.quantile(np.abs(waveform), 1.0 - share)
    clipped: Waveform = np.clip(waveform, -bound, bound).astype(np.float32) if bound > 0 else waveform
    return clipped


def change_speed(waveform: Waveform, speed: float) -> Waveform:
    """Return `waveform` played at `speed` times its own, which moves its pitch too: (samples / speed,)."""
    return resample(waveform, 1000, round(1000 / speed))


def gain(waveform: Waveform, config: AugmentConfig, rng: np.random.Generator) -> Waveform:
    """Return `waveform`, shape (samples,), with a random gain, clipped at full scale."""
    factor = 10.0 ** (rng.uniform(-config.gain_db, config.gain_db) / 20.0)
    louder: Waveform = np.clip(waveform * factor, -1.0, 1.0).astype(np.float32)
    return louder


def coloured_noise(samples: int, rng: np.random.Generator) -> Waveform:
    """Return noise of shape (samples,) with power 1 / f^c for a random c from 0 (white) to 2 (brown)."""
    length = 1 << (samples - 1).bit_length()  # a transform of a prime length would take far longer
    spectrum = rng.standard_normal(length // 2 + 1) + 1j * rng.standard_normal(length // 2 + 1)
    spectrum /= np.arange(1, length // 2 + 2) ** (rng.uniform(0.0, 2.0) / 2.0)
    return np.fft.irfft(spectrum, length)[:samples].astype(np.float32)


def mix(waveform: Waveform, background: Waveform, snr_db: float, rng: np.random.Generator) -> Waveform:
    """Return `waveform` plus `background`, from a random offset, at a signal-to-noise ratio of `snr_db`."""
    noise_waveform = _fit_length(background, len(waveform), rng)
    signal, noise = float(np.mean(waveform**2)), float(np.mean(noise_waveform**2))
    if signal == 0.0 or noise == 0.0:
        return waveform
    return waveform + noise_waveform * np.float32(np.sqrt(signal / noise) * 10.0 ** (-snr_db / 20.0))


def _fit_length(background: Waveform, samples: int, rng: np.random.Generator) -> Waveform:
    """Return `samples` of `background`, from a random offset, repeated as necessary."""
    return np.resize(np.roll(background, -int(rng.integers(len(background)))), samples)


def band_limit(log_mel: torch.Tensor, mel: MelConfig, cutoff_hz: float) -> torch.Tensor:
    """Return `log_mel`, shape (frames, n_mels), with the bands silenced whose centre lies above `cutoff_hz`."""
    above = torch.from_numpy(mel_center_frequencies_hz(mel) > cutoff_hz)
    return log_mel.masked_fill(above, SILENCE)


def mask_spectrogram(log_mel: torch.Tensor, config: AugmentConfig, rng: np.random.Generator) -> torch.Tensor:
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


def warp_frequencies(log_mel: torch.Tensor, mel: MelConfig, factor: float) -> torch.Tensor:
    """Return `log_mel`, shape (frames, n_mels), with all frequencies `factor` times as high: a shorter vocal tract.

    Bands that no band is moved to are silenced.
    """
    centers = mel_center_frequencies_hz(mel)
    sources = np.interp(centers / factor, centers, np.arange(len(centers)), right=np.nan)
    inside = torch.from_numpy(~np.isnan(sources))
    low = torch.from_numpy(np.nan_to_num(np.floor(sources)).astype(np.int64))
    weight = torch.from_numpy(np.nan_to_num(sources).astype(np.float32)) - low
    high = (low + 1).clamp(max=len(centers) - 1)
    return torch.where(inside, log_mel[:, low] * (1.0 - weight) + log_mel[:, high] * weight, SILENCE)


def equalize(log_mel: torch.Tensor, largest_db: float, rng: np.random.Generator) -> torch.Tensor:
    """Return `log_mel`, shape (frames, n_mels), through a random smooth filter, as of a microphone.

    Its loudest band and frame stays at the reference level.
    """
    bands = np.linspace(0.0, np.pi, log_mel.shape[1])
    curve = sum((rng.uniform(-1.0, 1.0) * np.cos(order * bands) for order in (1, 2, 3)), np.zeros_like(bands))
    filtered = log_mel + torch.from_numpy((curve * largest_db / 2.0 / 40.0).astype(np.float32))
    filtered = filtered - (filtered.max() - log_mel.max())
    return filtered.clamp_min(SILENCE)

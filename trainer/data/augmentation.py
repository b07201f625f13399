"""Changes to a recording that leave its meaning alone: pitch, tempo, rooms, noise, clipping, gain, masking.

And the blend of speech with another sound, which adds the sound to what the recording means.
"""

from __future__ import annotations

import numpy as np
import torch

from clara_search.audio.mel import MelConfig, mel_center_frequencies_hz
from clara_search.audio.resample import resample
from clara_search.audio.waveform import Waveform
from trainer.config.augmentation import AugmentConfig

SILENCE = -1.0
"""The lowest value of a log-mel: what a mask puts in."""


def augment(
    waveform: Waveform, sample_rate: int, config: AugmentConfig, rng: np.random.Generator, background: Waveform | None
) -> Waveform:
    """Return `waveform`, shape (samples,), changed as `config` says; `background` may be laid behind it."""
    semitones, tempo = 0.0, 1.0
    if rng.random() < config.pitch_probability:
        semitones = float(rng.uniform(-config.pitch_semitones, config.pitch_semitones))
    if rng.random() < config.tempo_probability:
        tempo = float(rng.uniform(*config.tempo))
    waveform = stretch_time(waveform, sample_rate, semitones, tempo)
    if rng.random() < config.speed_probability:
        waveform = play_at(waveform, rng.uniform(*config.speed))
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
    """Return `weight` times `speech` and 1 - `weight` times `sound`, which is brought to its length and level."""
    behind = _as_long(sound, len(speech), rng)
    level, other = np.sqrt(np.mean(speech**2)), np.sqrt(np.mean(behind**2))
    scaled = behind * np.float32(level / other) if other > 0 else behind
    return (np.float32(weight) * speech + np.float32(1.0 - weight) * scaled).astype(np.float32)


def reverb(waveform: Waveform, sample_rate: int, decay_s: float, rng: np.random.Generator) -> Waveform:
    """Return `waveform`, shape (samples,), as in a room whose echo falls by 60 dB in `decay_s`, at the same level.

    The room is noise that decays exponentially behind a direct sound (Moorer, 1979).
    """
    time = np.arange(max(round(decay_s * sample_rate), 1)) / sample_rate
    room = rng.standard_normal(len(time)) * np.exp(-6.9 * time / decay_s)
    room *= rng.uniform(0.2, 1.0) / np.sqrt(np.sum(room**2))
    room[0] = 1.0
    length = 1 << (len(waveform) + len(room) - 1).bit_length()
    heard = np.fft.irfft(np.fft.rfft(waveform, length) * np.fft.rfft(room, length), length)[: len(waveform)]
    level, now = np.sqrt(np.mean(waveform**2)), np.sqrt(np.mean(heard**2))
    return (heard * (level / now if now > 0 else 1.0)).astype(np.float32)


def clip_peaks(waveform: Waveform, share: float) -> Waveform:
    """Return `waveform`, shape (samples,), with the loudest `share` of its samples cut off."""
    bound = np.quantile(np.abs(waveform), 1.0 - share)
    clipped: Waveform = np.clip(waveform, -bound, bound).astype(np.float32) if bound > 0 else waveform
    return clipped


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
    behind = _as_long(background, len(waveform), rng)
    signal, noise = float(np.mean(waveform**2)), float(np.mean(behind**2))
    if signal == 0.0 or noise == 0.0:
        return waveform
    return waveform + behind * np.float32(np.sqrt(signal / noise) * 10.0 ** (-snr_db / 20.0))


def _as_long(background: Waveform, samples: int, rng: np.random.Generator) -> Waveform:
    """Return `samples` of `background`, from a random place, repeated."""
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

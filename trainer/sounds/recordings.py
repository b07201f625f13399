"""The audio side of a sound head: YAMNet's scores and features of recordings, cached on the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from clara_search.audio.mel import CPU
from clara_search.audio.waveform import Waveform
from clara_search.files.atomic import atomic_path, make_folder
from clara_search.models.clara.yamnet import SAMPLE_RATE, Yamnet, log_mel_patches
from clara_search.models.cpu_pool import map_batches
from trainer.data.corpus import Corpus

_LONGEST_S = 30
_PART = 256


class Described(NamedTuple):
    """Class scores from 0 to 1, (n, 521), and features, (n, 1024), of recordings, averaged over their patches."""

    scores: Tensor
    features: Tensor


def describe(yamnet: Yamnet, corpus: Corpus, indices: Sequence[int], cache: Path) -> Described:
    """Return YAMNet's scores and features of recordings.

    Args:
        yamnet: The network.
        corpus: Recordings at 16 kHz.
        indices: Indices of the recordings; only their first 30 s count.
        cache: Folder of results, which are read if present and written if not.
    """
    parts = [indices[start : start + _PART] for start in range(0, len(indices), _PART)]
    paths = [make_folder(cache) / f"{_key(corpus, part)}.npz" for part in parts]
    progress = tqdm(total=len(indices), desc="YAMNet", unit=" recordings")

    def describe_part(number: int) -> None:
        if not paths[number].exists():
            waveforms = [corpus.waveform(index)[: _LONGEST_S * SAMPLE_RATE] for index in parts[number]]
            described = describe_waveforms(yamnet, waveforms)
            with atomic_path(paths[number]) as partial, partial.open("wb") as file:
                np.savez(file, scores=described.scores.numpy(), features=described.features.numpy())
        progress.update(len(parts[number]))

    with progress:
        map_batches(describe_part, range(len(parts)), CPU)
    stored = [np.load(path) for path in paths]
    scores, features = (np.concatenate([part[name] for part in stored]) for name in ("scores", "features"))
    return Described(torch.from_numpy(scores), torch.from_numpy(features))


def _key(corpus: Corpus, indices: Sequence[int]) -> str:
    names = "\n".join(corpus.hashes[index] for index in indices)
    return hashlib.sha256(names.encode()).hexdigest()[:20]


@torch.inference_mode()
def describe_waveforms(yamnet: Yamnet, waveforms: Sequence[Waveform]) -> Described:
    """Return YAMNet's scores and features of mono waveforms (samples,) at 16 kHz."""
    scores, features = [], []
    for waveform in waveforms:
        patch_features = yamnet(log_mel_patches(torch.from_numpy(waveform)))
        features.append(patch_features.mean(dim=0))
        scores.append(yamnet.classes(patch_features).sigmoid().mean(dim=0))
    return Described(torch.stack(scores), torch.stack(features))


def make_noise(rng: np.random.Generator, count: int = 120) -> list[Waveform]:
    """Return clips without a sound event: silence, dither, and white to red noise, some with mains hum.

    Args:
        rng: The source of randomness.
        count: Number of clips.

    Returns:
        Waveforms of 0.3 to 8 s at 16 kHz, from -1 to 1.
    """
    clips = []
    for number in range(count):
        samples = round(SAMPLE_RATE * rng.uniform(0.3, 8.0))
        kind = number % 6
        if kind < 4:
            slope = (0.0, 1.0, 2.0, rng.uniform(0.0, 2.0))[kind]
            clip = _coloured(rng, samples, slope) * _gain(rng, -75.0, -12.0)
        elif kind == 4:
            clip = rng.integers(2) * rng.standard_normal(samples) * _gain(rng, -100.0, -75.0)
        else:
            hum = np.sin(2.0 * np.pi * rng.choice([50.0, 60.0, 100.0]) * np.arange(samples) / SAMPLE_RATE)
            noise = _coloured(rng, samples, rng.uniform(0.0, 2.0)) * _gain(rng, -75.0, -40.0)
            clip = noise + hum * _gain(rng, -75.0, -40.0)
        clips.append(np.clip(clip, -1.0, 1.0).astype(np.float32))
    return clips


def _coloured(rng: np.random.Generator, samples: int, slope: float) -> npt.NDArray[np.float64]:
    """Return noise of unit power whose spectrum falls with frequency to the power of `slope`."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    hz = np.fft.rfftfreq(samples, 1.0 / SAMPLE_RATE)
    hz[0] = hz[1]
    noise: npt.NDArray[np.float64] = np.fft.irfft(spectrum * hz ** (-slope / 2.0), samples)
    noise /= noise.std()
    return noise


def _gain(rng: np.random.Generator, low_db: float, high_db: float) -> float:
    return float(10.0 ** (rng.uniform(low_db, high_db) / 20.0))

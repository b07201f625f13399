"""YAMNet (Google, Apache-2.0): patches of a log-mel to the features that score AudioSet's 521 classes.

Its batch norms are folded into its convolutions. The log-mel is YAMNet's: HTK mels of magnitudes, without centring.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SAMPLE_RATE = 16000
FEATURES = 1024
CLASSES = 521

_WINDOW, _HOP, _N_FFT, _N_MELS = 400, 160, 512, 64
_LOWEST_HZ, _HIGHEST_HZ = 125.0, 7500.0
_LOG_OFFSET = 0.001
_PATCH, _SHORT_HOP, _LONG_HOP = 96, 48, 96  # frames
_FEW_PATCHES = 10
_FRAMES_AT_ONCE = 2048
_PATCHES_AT_ONCE = {"cpu": 16, "cuda": 1024}
_SHORTEST = _WINDOW + (_PATCH - 1) * _HOP

_CHANNELS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


class Yamnet(nn.Module):
    """A stem, 13 depthwise-separable convolutions, and a linear layer that scores the classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, _CHANNELS[0], 3, stride=2)
        self.depthwise = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, stride=stride, groups=channels)
            for channels, stride in zip(_CHANNELS, _STRIDES, strict=False)
        )
        self.pointwise = nn.ModuleList(nn.Conv2d(into, out, 1) for into, out in pairwise(_CHANNELS))
        self.classes = nn.Linear(FEATURES, CLASSES)

    def forward(self, patches: Tensor) -> Tensor:
        """Return non-negative features (n, 1024) of log-mel patches (n, 96, 64)."""
        at_once = _PATCHES_AT_ONCE["cpu" if patches.device.type == "cpu" else "cuda"]
        return torch.cat([self._convolve(some) for some in torch.split(patches, at_once)])

    def _convolve(self, patches: Tensor) -> Tensor:
        x = patches[:, None].contiguous(memory_format=torch.channels_last)
        x = F.relu_(self.stem(pad_same(x, 2)))
        for depthwise, pointwise, stride in zip(self.depthwise, self.pointwise, _STRIDES, strict=True):
            x = F.relu_(pointwise(F.relu_(depthwise(pad_same(x, stride)))))
        return x.mean(dim=(2, 3))


def log_mel_patches(waveform: Tensor) -> Tensor:
    """Return the log-mel patches of a waveform.

    A waveform shorter than one patch (0.975 s) is padded with zeros. Patches overlap by half; if that gives more than
    ten, they do not overlap, because the convolutions dominate the cost of a clip.

    Args:
        waveform: mono at 16 kHz, (samples,).

    Returns:
        Patches (n, 96, 64): 96 frames of 10 ms, 64 mels.
    """
    waveform = F.pad(waveform, (0, max(0, _SHORTEST - len(waveform))))
    window, filters = torch.hann_window(_WINDOW, device=waveform.device), _filters(waveform.device)
    log_mel = torch.cat(
        [
            (torch.fft.rfft(frames * window, _N_FFT).abs() @ filters + _LOG_OFFSET).log()
            for frames in torch.split(waveform.unfold(0, _WINDOW, _HOP), _FRAMES_AT_ONCE)
        ]
    )
    patches = log_mel.unfold(0, _PATCH, _SHORT_HOP)
    if len(patches) > _FEW_PATCHES:
        patches = log_mel.unfold(0, _PATCH, _LONG_HOP)
    return patches.transpose(1, 2)


def pad_same(x: Tensor, stride: int) -> Tensor:
    """Pad for a 3 x 3 convolution as TensorFlow does ("same"): an even size with stride 2 only at the end."""
    pads = [(0, 1) if stride == 2 and size % 2 == 0 else (1, 1) for size in (x.shape[3], x.shape[2])]
    return F.pad(x, (*pads[0], *pads[1]))


@cache
def _filters(device: torch.device) -> Tensor:
    """Return triangular filters over the HTK mel scale, shape (257, 64); the lowest bin does not count."""
    mels = _hz_to_mel(torch.linspace(0.0, SAMPLE_RATE / 2, _N_FFT // 2 + 1, dtype=torch.float64))[:, None]
    ends = _hz_to_mel(torch.tensor([_LOWEST_HZ, _HIGHEST_HZ], dtype=torch.float64))
    edges = torch.linspace(float(ends[0]), float(ends[1]), _N_MELS + 2, dtype=torch.float64)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    filters = torch.minimum((mels - low) / (centre - low), (high - mels) / (high - centre)).clamp_min(0.0)
    filters[0] = 0.0
    return filters.float().to(device)


def _hz_to_mel(hz: Tensor) -> Tensor:
    return 1127.0 * (hz / 700.0).log1p()

"""What backends yield, what they find out about a file, and how channels are mixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from clara_search.audio.waveform import Waveform

FRONT = 2**-0.5
SURROUND = 0.5
WEIGHTS = {
    **dict.fromkeys(("FC", "MONO"), 1.0),
    **dict.fromkeys(("FL", "FR", "FLC", "FRC", "DL", "DR", "WL", "WR"), FRONT),
    **dict.fromkeys(("LFE", "LFE2"), 0.0),
}
"""Weights of the channels of a mix, before they are divided by their sum: those of ITU-R BS.775, as FFmpeg has them.

All other channels, those at the back, the sides and above, weigh `SURROUND`. So stereo is averaged, the centre counts
as much as both sides of a film together, and the channel of effects below 120 Hz is left out.
"""

_USUAL_LAYOUTS = {
    1: ("FC",),
    2: ("FL", "FR"),
    5: ("FL", "FR", "FC", "BL", "BR"),
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    7: ("FL", "FR", "FC", "LFE", "BC", "SL", "SR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}
"""What players take the channels of a file for that does not name them; other numbers are averaged."""

QUIET = 1e-6
"""A mix with less than this part of the energy of its channels, -60 dB, counts as silence."""


@dataclass(frozen=True)
class Block:
    """Samples of all channels.

    Attributes:
        samples: float32, shape (channels, samples).
        rate: Samples a second.
        layout: Names of the channels as FFmpeg has them, such as "FL"; empty if the file does not name them.
        start_s: Where a player shows the first sample, in seconds; None: right after the block before.
        is_lossy: Whether a lossy codec computed the samples: then those that are not finite are the decoder's fault.
    """

    samples: npt.NDArray[np.float32]
    rate: int
    layout: tuple[str, ...] = ()
    start_s: float | None = None
    is_lossy: bool = False


@dataclass
class Facts:
    """What a backend finds out about a file besides its samples.

    Attributes:
        declared_s: Duration that the file states exactly, in seconds; None if it states none.
        is_cut: Whether the file states a size in bytes that it does not have.
        damaged: Number of packets that could not be decoded.
        gap_s: Seconds of the gaps between blocks.
        lost_s: Seconds of the damaged packets at the end, in whose place nothing is.
        longest_packet_s: Length of the longest packet in seconds.
        other_tracks: Number of further audio tracks.
        track: The track that was asked for, if there are several.
        has_no_end: Whether the mark is missing that ends the last stream.
        is_lossy: Whether samples that are not finite are the decoder's fault, not the file's.
    """

    declared_s: float | None = None
    is_cut: bool = False
    damaged: int = 0
    gap_s: float = 0.0
    lost_s: float = 0.0
    longest_packet_s: float = 0.0
    other_tracks: int = 0
    track: int | None = None
    has_no_end: bool = False
    is_lossy: bool = False


@dataclass
class Mixer:
    """Mixes the channels of blocks, and keeps account of what is lost by it.

    Attributes:
        energy: Sum of squares of the mix, and of all channels.
    """

    energy: list[float] = field(default_factory=lambda: [0.0, 0.0])

    def mix(self, block: Block) -> Waveform:
        """Return the mix of a block's channels, shape (samples,)."""
        samples = block.samples
        mixed: Waveform = samples[0]
        if len(samples) == 1:
            return mixed
        weights = mix_weights(len(samples), block.layout)
        mixed = mixed * weights[0]
        for channel, weight in zip(samples[1:], weights[1:], strict=True):
            if weight:
                mixed += channel * weight
        self.energy[0] += float(np.vdot(mixed, mixed))
        self.energy[1] += sum(float(np.vdot(channel, channel)) for channel in samples)
        return mixed

    @property
    def is_silent(self) -> bool:
        """Whether the mix is silence though the channels are not."""
        mixed, channels = self.energy
        return channels > 0 and mixed < QUIET * channels


def mix_weights(channels: int, layout: Sequence[str] = ()) -> npt.NDArray[np.float32]:
    """Return the weight of each channel in the mix, shape (channels,); their sum is 1.

    Args:
        channels: Number of channels.
        layout: Their names as FFmpeg has them; empty: the usual ones for that number.
    """
    names = tuple(layout) if len(layout) == channels else _USUAL_LAYOUTS.get(channels, ())
    weights = np.array([WEIGHTS.get(name, SURROUND) for name in names] or [1.0] * channels)
    if not weights.sum():
        weights[:] = 1.0
    shares: npt.NDArray[np.float32] = (weights / weights.sum()).astype(np.float32)
    return shares


def to_float(samples: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return samples of any type with full scale 1, as libsndfile scales them."""
    kind = samples.dtype
    scaled: npt.NDArray[Any] = samples
    if kind == np.uint8:
        scaled = (samples.astype(np.float32) - 128) * np.float32(1 / 128)
    elif kind.kind == "i":
        scaled = samples.astype(np.float32) if kind.itemsize <= 2 else samples.astype(np.float64)
        scaled *= scaled.dtype.type(2.0 ** (1 - 8 * kind.itemsize))
    return np.asarray(scaled, np.float32)

"""Sample-rate conversion with soxr."""

from __future__ import annotations

import numpy as np
import soxr

from clara_search.audio.waveform import Waveform


def resample(waveform: Waveform, from_rate: int, to_rate: int) -> Waveform:
    """Return `waveform`, shape (samples,), resampled from `from_rate` to `to_rate` Hz with soxr at high quality."""
    if from_rate == to_rate:
        return waveform
    resampled = soxr.resample(waveform, from_rate, to_rate, quality="HQ")
    # A recording of a few samples can round to zero samples: it keeps its first sample.
    return np.asarray(resampled if len(resampled) else waveform[:1], dtype=np.float32)

"""The type of waveforms: mono float32 samples, shape (samples,), at a rate in Hz that is passed beside them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Waveform = npt.NDArray[np.float32]

LOWEST_RATE = 100
"""Sample rate in Hz below which a file is refused: resampled to a usual rate it would fill the memory."""

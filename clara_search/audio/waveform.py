"""What a waveform is in this library: mono float32 samples at a stated rate."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Waveform = npt.NDArray[np.float32]

LOWEST_RATE = 100
"""Hz below which a file is not taken for a recording: brought to a usual rate it would fill the memory."""

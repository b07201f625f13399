"""Memory that was freed, given back: allocators keep it, and a run of days would seem to grow."""

from __future__ import annotations

import ctypes
import ctypes.util
from contextlib import suppress


def give_back() -> None:
    """Have the allocators of Arrow and of C return to the system what nobody uses; some milliseconds."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    with suppress(AttributeError, OSError):  # only glibc has it
        ctypes.CDLL(ctypes.util.find_library("c")).malloc_trim(0)

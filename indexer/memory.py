"""Memory that was freed, given back: allocators keep it, and a run of days would seem to grow."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def give_back() -> None:
    """Have the allocators of Arrow and of C return to the system what nobody uses; some milliseconds."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    with suppress(AttributeError, OSError, TypeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)

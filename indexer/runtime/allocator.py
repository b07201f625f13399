"""Memory that does not grow with what was indexed: allocators keep what was freed, and a run of days would grow."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_ARENA_MAX = -8
"""glibc's M_ARENA_MAX, a parameter of mallopt."""


def limit_allocator() -> None:
    """Have this process take and return memory in one place: for a program to call before it starts threads.

    Arrow's own allocator, and an arena of C's for each thread, keep what LanceDB frees after a commit: 100 commits of
    1,000 rows went from 224 to 331 MiB with them, and from 216 to 226 MiB so.
    """
    import pyarrow as pa

    pa.set_memory_pool(pa.system_memory_pool())
    with suppress(AttributeError, OSError, TypeError):  # only glibc has it
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)


def release_memory() -> None:
    """Have the allocators of Arrow and of C return to the system what nobody uses; some milliseconds."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    with suppress(AttributeError, OSError, TypeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)

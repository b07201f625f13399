"""What a process may use of its machine."""

from __future__ import annotations

import os


def core_count() -> int:
    """Return how many cores this process may run on: fewer than there are, where somebody says so."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

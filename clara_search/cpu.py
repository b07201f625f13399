"""Cores of this machine."""

from __future__ import annotations

import os


def core_count() -> int:
    """Return the number of cores that this process may run on, which an affinity mask can limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

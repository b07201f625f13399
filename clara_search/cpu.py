"""Cores of this machine."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from math import ceil
from pathlib import Path, PurePosixPath

_GROUPS = Path("/proc/self/cgroup")
_HIERARCHY = Path("/sys/fs/cgroup")


def core_count() -> int:
    """Return the number of cores that this process may use: an affinity mask or a quota of its container can limit it.

    A quota that is no whole number is rounded up.
    """
    return min([_affinity(), *(max(1, ceil(quota)) for quota in _quotas())])


def limit_threads() -> None:
    """Let numerical libraries start no more threads than a quota has cores: by themselves they heed affinity only.

    It has to be called before they are imported. OMP_NUM_THREADS, if it is set, counts.
    """
    if core_count() < _affinity():
        os.environ.setdefault("OMP_NUM_THREADS", str(core_count()))


def limit_threads_after_fork() -> None:
    """Let the numerical libraries that are loaded work on one thread: a forked process has none of their threads.

    They would wait for them for ever.
    """
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)
    if (faiss := sys.modules.get("faiss")) is not None:
        faiss.omp_set_num_threads(1)


def _affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quotas() -> list[float]:
    """Return the CPU quotas, in cores, of this process's control group and of the groups above it (Linux)."""
    quotas = []
    with suppress(OSError, ValueError):  # no Linux, or no such groups
        for line in _GROUPS.read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            root = _HIERARCHY / controllers if controllers else _HIERARCHY
            path = PurePosixPath(group.lstrip("/"))
            for folder in (root / path, *(root / parent for parent in path.parents)):
                quotas += _quota(folder)
    return quotas


def _quota(group: Path) -> list[float]:
    """Return the quota of one control group, in either version's files; nothing if it has none."""
    with suppress(OSError, ValueError):
        limit, period = (group / "cpu.max").read_text().split()
        return [int(limit) / int(period)] if limit != "max" else []
    with suppress(OSError, ValueError):
        limit_us = int((group / "cpu.cfs_quota_us").read_text())
        return [limit_us / int((group / "cpu.cfs_period_us").read_text())] if limit_us > 0 else []
    return []

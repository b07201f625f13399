"""The speed of a device: matrix products, and the time of a call."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def matmul_flops_per_s(device: torch.device, dtype: torch.dtype) -> float:
    """Return the operations per second of the fastest of five products of two large square matrices."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    a @ b
    return 2.0 * size**3 / min(seconds_of(lambda: a @ b) for _ in range(5))


def seconds_of(call: Callable[[], object]) -> float:
    """Return the seconds that `call` takes, on the GPU too."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def device_name(device: str | None) -> str:
    """Return the name of the GPU, or the number of CPU threads, that `device` stands for."""
    if device != "cpu" and torch.cuda.is_available():
        return str(torch.cuda.get_device_name(device or 0))
    return f"{torch.get_num_threads()} CPU threads"

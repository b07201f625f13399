"""What a device can multiply, and how long calls on it take."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def matmul_flops_per_s(device: torch.device, dtype: torch.dtype) -> float:
    """Return the rate of the best of five products of two square matrices."""
    size = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    a @ b
    return 2.0 * size**3 / min(seconds_of(lambda: a @ b) for _ in range(5))


def seconds_of(call: Callable[[], object]) -> float:
    """Return how long `call` takes, with what it leaves a GPU to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    began = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def device_name(device: str | None) -> str:
    """Return what a figure was measured on: the GPU, or how many threads of the CPU."""
    if device != "cpu" and torch.cuda.is_available():
        return str(torch.cuda.get_device_name(device or 0))
    return f"{torch.get_num_threads()} CPU threads"

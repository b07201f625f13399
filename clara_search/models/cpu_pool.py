"""Work shared over the cores of a CPU: several batches at a time, each on one core.

Torch spreads each operation over all cores by itself, but in a small batch those mostly wait for each other. On a CPU,
one batch per core is faster, with one core per operation.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from threading import Barrier, Lock
from typing import TypeVar

import torch

T = TypeVar("T")

_pool_lock = Lock()


def split_budget(total: int, budget: int, device: torch.device) -> int:
    """Return the size limit of a batch for `map_batches`: on a CPU small enough for two batches per core.

    Args:
        total: Size of all items together, in the unit of `budget`, such as tokens.
        budget: Largest batch that the device takes.
        device: Where the batches are computed.

    Returns:
        `budget` or less.
    """
    return min(budget, -(-total // (2 * torch.get_num_threads()))) if device.type == "cpu" else budget


def map_batches(work: Callable[[T], None], batches: Iterable[T], device: torch.device) -> None:
    """Call `work` on each of `batches`: on a CPU in as many threads as torch has, elsewhere one after the other.

    In a thread of `core_pool`, torch has one thread, and the batches are worked on one after the other.

    Args:
        work: Computes one batch.
        batches: The batches.
        device: Where `work` computes.

    Raises:
        Exception: Whatever the first failing call of `work` raised, once all calls are over.
    """
    items, threads = list(batches), torch.get_num_threads()
    if device.type != "cpu" or threads == 1 or len(items) < 2:
        for item in items:
            work(item)
        return
    pool = core_pool()
    futures = [pool.submit(work, item) for item in items]
    wait(futures)
    for future in futures:
        future.result()


def core_pool() -> ThreadPoolExecutor:
    """Return this process's pool of as many threads as torch has, in each of which torch computes on one core.

    It is shared: submit jobs and wait for them, but do not shut it down.
    """
    with _pool_lock:  # two callers would open two pools
        return _open_pool(torch.get_num_threads(), os.getpid())


@cache
def _open_pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Return a pool for this `process`: a forked one has none of its parent's threads."""
    started = Barrier(threads + 1)

    def limit_torch() -> None:
        torch.get_num_threads()  # the first call in a thread sets its number to the global one
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(threads, "encode", initializer=limit_torch)
    for _ in range(threads):
        pool.submit(int)
    started.wait()
    torch.set_num_threads(threads)  # the calls above set the global number, that of later threads, too
    return pool

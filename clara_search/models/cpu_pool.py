"""Several batches at a time on a CPU, each on one core: the cores of one small batch mostly wait for each other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from threading import Barrier, Lock
from typing import TypeVar

import torch

T = TypeVar("T")

_opening = Lock()


def cap_batch_budget(tokens: int, budget: int, device: torch.device) -> int:
    """Return how many units a batch may have, of `tokens` in all: two batches for each core of a CPU, or one waits."""
    return min(budget, -(-tokens // (2 * torch.get_num_threads()))) if device.type == "cpu" else budget


def map_batches(work: Callable[[T], None], batches: Iterable[T], device: torch.device) -> None:
    """Do `work` on each of `batches`: on a CPU by as many threads as torch has, elsewhere one after the other.

    All of them are through when it returns, or when it raises what the first that failed raised.
    """
    listed, threads = list(batches), torch.get_num_threads()
    if device.type != "cpu" or threads == 1 or len(listed) < 2:
        for batch in listed:
            work(batch)
        return
    pool = core_pool()
    jobs = [pool.submit(work, batch) for batch in listed]
    wait(jobs)
    for job in jobs:
        job.result()


def core_pool() -> ThreadPoolExecutor:
    """Return this process's pool of as many threads as torch has, in each of which torch computes on one core.

    It is shared: whoever submits jobs waits for them and leaves the pool open.
    """
    with _opening:  # or two callers would open two
        return _pool(torch.get_num_threads(), os.getpid())


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Return the threads of this `process` (a fork has none of its parent's), in each of which torch uses one core."""
    there = Barrier(threads + 1)

    def begin() -> None:
        torch.get_num_threads()  # the first question of a thread sets it to what all have
        torch.set_num_threads(1)
        there.wait()

    pool = ThreadPoolExecutor(threads, "encode", initializer=begin)
    for _ in range(threads):
        pool.submit(int)
    there.wait()
    torch.set_num_threads(threads)  # threads to come would have one core too
    return pool

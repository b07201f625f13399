"""Decoding by FFmpeg in several threads: one at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from threading import Lock
from typing import TypeVar

T = TypeVar("T")


def in_turn(blocks: Iterator[T]) -> Iterator[T]:
    """Yield `blocks`, each made while no other thread makes one.

    PyAV lets go of the interpreter for each packet, and threads that do so wait for each other more than they decode:
    two of them take longer than one. Processes decode in parallel.
    """
    while True:
        with _turn(os.getpid()):
            block = next(blocks, None)
        if block is None:
            return
        yield block


@cache
def _turn(process: int) -> Lock:
    """Return the lock of a process: a forked one has its own, for its parent's may be held."""
    return Lock()

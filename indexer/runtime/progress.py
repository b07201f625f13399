"""The progress of a run: a bar on a terminal, and elsewhere a line now and then."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from indexer.runtime.timers import StageTimers

PROGRESS_S = 60.0
"""Seconds from one line to the next."""

_log = logging.getLogger(__name__)


@contextmanager
def show_progress(total: int | None, timers: StageTimers) -> Iterator[Callable[[bool], None]]:
    """Yield a function that counts an item, and takes whether it failed.

    Args:
        total: Number of items, if it is known.
        timers: Timers of the run.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield _ProgressLines(total, timers).update
        return
    from tqdm import tqdm

    with tqdm(total=total, unit="item", file=sys.stderr) as bar:

        def update(has_failed: bool) -> None:
            bar.set_postfix_str(timers.shares(), refresh=False)
            bar.update()

        yield update


class _ProgressLines:
    """Lines in the log if somebody reads it, and otherwise on stderr."""

    def __init__(self, total: int | None, timers: StageTimers):
        self._total = total
        self._timers = timers
        self._count = self._failed = 0
        self._started_at = self._shown_at = time.monotonic()

    def update(self, has_failed: bool) -> None:
        self._count += 1
        self._failed += has_failed
        now = time.monotonic()
        if now - self._shown_at >= PROGRESS_S:
            self._shown_at = now
            if _log.isEnabledFor(logging.INFO):
                _log.info("%s", self._line(now))
            else:
                click.echo(self._line(now), err=True)

    def _line(self, now: float) -> str:
        rate = self._count / (now - self._started_at)
        of_total = f" of {self._total:,} ({self._count / self._total:.0%})" if self._total else ""
        left = f", about {(self._total - self._count) / rate / 60:,.0f} min left" if self._total else ""
        return f"{self._count:,}{of_total} items, {self._failed:,} failed, {rate:,.1f}/s{left}; {self._timers.shares()}"

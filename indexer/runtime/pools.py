"""Threads between the stages of a run."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import Generic, TypeVar

from clara_search.cpu import core_count
from indexer.runtime.timers import StageTimer

_MAX_THREADS = 32
_PERIOD_S = 1.0
"""Interval at which an `AdaptivePool` decides."""

_MIN_IDLE_CORES = 0.25
"""Less than this counts as no idle core."""

T = TypeVar("T")


def prefetch_iter(
    items: Iterable[T],
    buffer_size: int,
    timer: StageTimer,
    num_bytes: Callable[[T], int] | None = None,
    max_bytes: int = 0,
) -> Generator[T, None, None]:
    """Yield `items`, which a thread reads up to `buffer_size` ahead; its errors are raised here.

    The thread resumes when half of the buffer is empty: a hand-over per item costs more than listing most items.

    Args:
        items: The items.
        buffer_size: Number of items that may wait.
        timer: Counts the time of the thread.
        num_bytes: Bytes that an item holds; None: they do not matter.
        max_bytes: Bytes that may wait, if the waiting ones are more than one.
    """
    buffer: deque[T] = deque()
    change = threading.Condition()
    is_closed = is_exhausted = False
    held = 0
    raised: BaseException | None = None

    def has_room(size: int) -> bool:
        return not held or held + size <= max_bytes or is_closed

    def fill() -> None:
        nonlocal is_exhausted, raised, held
        source = iter(items)
        while not is_closed:
            try:
                with timer.working():
                    item = next(source)
            except StopIteration:
                break
            except BaseException as error:
                raised = error
                break
            if num_bytes is not None and (size := num_bytes(item)):
                with timer.waiting(), change:
                    change.wait_for(partial(has_room, size))
                    held += size
            buffer.append(item)
            if len(buffer) == 1:
                with change:
                    change.notify()
            if len(buffer) >= buffer_size:
                with timer.waiting(), change:
                    change.wait_for(lambda: len(buffer) <= buffer_size // 2 or is_closed)
        with change:
            is_exhausted = True
            change.notify()

    thread = threading.Thread(target=fill, name="list", daemon=True)
    thread.start()
    try:
        while True:
            if not buffer:
                with change:
                    change.wait_for(lambda: buffer or is_exhausted)
                if not buffer:
                    break
            item = buffer.popleft()
            if num_bytes is not None and (size := num_bytes(item)):
                with change:
                    held -= size
                    change.notify()
            if len(buffer) == buffer_size // 2:
                with change:
                    change.notify()
            yield item
        if raised is not None:
            raise raised
    finally:
        is_closed = True
        with change:
            change.notify()
        thread.join(timeout=5)


class Job(Generic[T]):
    """Work for a thread, and its result.

    Attributes:
        started_at: monotonic time at which it started; None while it waits.
        thread: identifier of the thread that runs it.
        is_finished: set once there is a result or an error.
        is_abandoned: whether nobody waits for it any longer.
    """

    def __init__(self, work: Callable[[], T]):
        self._work = work
        self._result: T | None = None
        self._error: BaseException | None = None
        self.started_at: float | None = None
        self.thread: int | None = None
        self.is_finished = threading.Event()
        self.is_abandoned = False

    def run(self) -> None:
        """Do the work in this thread."""
        self.started_at, self.thread = time.monotonic(), threading.get_ident()
        try:
            self._result = self._work()
        except BaseException as error:
            self._error = error
        self.is_finished.set()

    def result(self) -> T:
        """Return the result of a finished job, or raise its error."""
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]

    def running_s(self) -> float:
        """Return the seconds since it started; 0 for a job that waits."""
        return 0.0 if self.started_at is None else time.monotonic() - self.started_at


class WorkerThreads:
    """Daemon threads that run jobs. A thread that hangs can be abandoned: it does not keep the process alive."""

    def __init__(self, count: int, timer: StageTimer, name: str):
        self._jobs: queue.SimpleQueue[Job[object] | None] = queue.SimpleQueue()
        self._timer = timer
        self.count = 0
        self._name = name
        self.grow(count)

    def grow(self, count: int) -> None:
        """Start `count` more threads."""
        self.count += count
        for _ in range(count):
            self._start()

    def submit(self, job: Job[T]) -> None:
        """Queue `job`."""
        self._jobs.put(job)  # type: ignore[arg-type]

    def abandon(self, job: Job[T]) -> None:
        """Give up the thread that runs `job`, and start another in its place."""
        job.is_abandoned = True
        self._start()

    def close(self) -> None:
        """Drop the queued jobs; the threads end after their current job."""
        while not self._jobs.empty():
            self._jobs.get()
        for _ in range(self.count):
            self._jobs.put(None)

    def _start(self) -> None:
        threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._timer.waiting():
                job = self._jobs.get()
            if job is None:
                return
            with self._timer.working():
                job.run()
            if job.is_abandoned:
                return
            del job  # or it would keep its recording in memory until the next job


class AdaptivePool:
    """Grows a pool of threads while others wait for it and cores are idle.

    Threads beyond that would only be in the way of an encoder on the same cores.
    """

    def __init__(self, workers: WorkerThreads, cores: int = 0):
        self._workers = workers
        self._cores = cores or core_count()
        self._start_period()

    def _start_period(self) -> None:
        self._started_at, self._cpu_started_s, self._waited_s = time.monotonic(), time.process_time(), 0.0

    def add_waiting(self, seconds: float) -> None:
        """Note that others waited for the pool; start threads if they waited most of the last period."""
        self._waited_s += seconds
        period_s = time.monotonic() - self._started_at
        if period_s < _PERIOD_S:
            return
        idle_cores = self._cores - (time.process_time() - self._cpu_started_s) / period_s
        if self._waited_s > period_s / 2 and idle_cores > _MIN_IDLE_CORES:
            self._workers.grow(min(max(1, int(idle_cores)), self._workers.count, _MAX_THREADS - self._workers.count))
        self._start_period()

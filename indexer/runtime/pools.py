"""The stages of a run: how long each worked and waited, and threads that hand on from one to the next."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Generic, TypeVar

from clara_search.cpu import core_count
from indexer.runtime.timers import StageTimer

_MOST_THREADS = 32
_CREW_LASTS_S = 1.0
_IDLE_CORES = 0.25
"""Less than this is no core that waits for work."""

T = TypeVar("T")


def prefetch_iter(items: Iterable[T], most: int, clock: StageTimer) -> Generator[T, None, None]:
    """Yield `items`, which a thread takes out at most `most` ahead. What it raises is raised here.

    The thread goes on when half of them are gone: to hand over one at a time costs more than to list most things.
    """
    handed: deque[T] = deque()
    change = threading.Condition()
    is_closed = is_through = False
    raised: BaseException | None = None

    def take() -> None:
        nonlocal is_through, raised
        source = iter(items)
        while not is_closed:
            try:
                with clock.working():
                    item = next(source)
            except StopIteration:
                break
            except BaseException as error:
                raised = error
                break
            handed.append(item)
            if len(handed) == 1:
                with change:
                    change.notify()
            if len(handed) >= most:
                with clock.waiting(), change:
                    change.wait_for(lambda: len(handed) <= most // 2 or is_closed)
        with change:
            is_through = True
            change.notify()

    thread = threading.Thread(target=take, name="list", daemon=True)
    thread.start()
    try:
        while True:
            if not handed:
                with change:
                    change.wait_for(lambda: handed or is_through)
                if not handed:
                    break
            item = handed.popleft()
            if len(handed) == most // 2:
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
    """Work for a thread, and what came of it."""

    def __init__(self, work: Callable[[], T]):
        self._work = work
        self._result: T | None = None
        self._error: BaseException | None = None
        self.began: float | None = None
        self.thread: int | None = None
        self.is_finished = threading.Event()
        self.is_abandoned = False

    def run(self) -> None:
        """Do the work."""
        self.began, self.thread = time.monotonic(), threading.get_ident()
        try:
            self._result = self._work()
        except BaseException as error:
            self._error = error
        self.is_finished.set()

    def result(self) -> T:
        """Return what came of it, or raise what it raised. It has to be finished."""
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]

    def ran_s(self) -> float:
        """Return for how long it has been running; 0 for a job that waits."""
        return 0.0 if self.began is None else time.monotonic() - self.began


class Workers:
    """Threads that do jobs. One that hangs can be left behind: it ends with the process, not the process with it."""

    def __init__(self, count: int, clock: StageTimer, name: str):
        self._jobs: queue.SimpleQueue[Job[object] | None] = queue.SimpleQueue()
        self._clock = clock
        self.count = 0
        self._name = name
        self.grow(count)

    def grow(self, more: int) -> None:
        """Have so many threads more."""
        self.count += more
        for _ in range(more):
            self._start()

    def submit(self, job: Job[T]) -> None:
        """Have a thread do `job` when it gets to it."""
        self._jobs.put(job)  # type: ignore[arg-type]

    def abandon(self, job: Job[T]) -> None:
        """Leave the thread behind that does `job`; another takes its place."""
        job.is_abandoned = True
        self._start()

    def close(self) -> None:
        """Let the threads end after what they are doing; what waits is dropped."""
        while not self._jobs.empty():
            self._jobs.get()
        for _ in range(self.count):
            self._jobs.put(None)

    def _start(self) -> None:
        threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._clock.waiting():
                job = self._jobs.get()
            if job is None:
                return
            with self._clock.working():
                job.run()
            if job.is_abandoned:
                return
            del job  # or it would keep a recording in memory until the next one comes


class AdaptivePool:
    """Threads that become more while the others wait for them and cores are idle.

    More than it takes would only be in the way of an encoder on the same cores: they stop each other at every step.
    """

    def __init__(self, workers: Workers, cores: int = 0):
        self._workers = workers
        self._cores = cores or core_count()
        self._begin()

    def _begin(self) -> None:
        self._began, self._processor_s, self._waited_s = time.monotonic(), time.process_time(), 0.0

    def waited(self, seconds: float) -> None:
        """Be told that the others waited, and have more threads where they did most of the time."""
        self._waited_s += seconds
        lasted_s = time.monotonic() - self._began
        if lasted_s < _CREW_LASTS_S:
            return
        idle = self._cores - (time.process_time() - self._processor_s) / lasted_s
        if self._waited_s > lasted_s / 2 and idle > _IDLE_CORES:
            self._workers.grow(min(max(1, int(idle)), self._workers.count, _MOST_THREADS - self._workers.count))
        self._begin()

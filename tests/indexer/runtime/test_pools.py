from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from indexer.ledger.digest_map import DigestMap
from indexer.runtime import pools
from indexer.runtime.pools import AdaptivePool, Job, WorkerThreads, prefetch_iter
from indexer.runtime.timers import StageTimer


def test_a_digest_map_agrees_with_a_dict() -> None:
    rng = np.random.default_rng(0)
    keys = [*rng.integers(1, 2**63, 5000).tolist(), *(1024 * n + 1 for n in range(200))]  # the last ones collide
    digests, expected = DigestMap(2), {}
    for number, key in enumerate(keys + keys[:100]):
        digests.put(key, number, key)
        expected[key] = (number, key)
    assert len(digests) == len(expected)
    assert all(digests.get(key) == values for key, values in expected.items())
    assert digests.get(7) is None
    assert 7 not in digests


def test_what_is_listed_ahead_is_bounded_and_in_order() -> None:
    taken = 0

    def count() -> Iterator[int]:
        nonlocal taken
        while taken < 100:
            taken += 1
            yield taken

    stream = prefetch_iter(count(), 5, StageTimer())
    assert next(stream) == 1
    time.sleep(0.3)
    assert taken <= 8
    assert list(stream) == list(range(2, 101))


def test_what_is_listed_ahead_is_bounded_by_its_bytes() -> None:
    made, taken = 0, 0

    def recordings() -> Iterator[bytes]:
        nonlocal made
        for size in (300, 20, 30, 500, *[90] * 40):
            made += size
            yield bytes(size)

    most = 0
    for recording in prefetch_iter(recordings(), 50, StageTimer(), len, 200):
        time.sleep(0.005)
        most = max(most, made - taken)
        taken += len(recording)
    assert taken == 300 + 20 + 30 + 500 + 40 * 90
    assert most <= 300 + 500 + 200  # the one in hand, one that waits for room, and those that have it


def test_an_error_while_listing_is_raised_where_it_is_read() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("line 2")

    stream = prefetch_iter(broken(), 5, StageTimer())
    assert next(stream) == 1
    with pytest.raises(ValueError, match="line 2"):
        next(stream)


def test_a_timer_keeps_all_work_in_its_bins_however_long_the_run() -> None:
    timer = StageTimer()
    for began in range(0, 1000, 10):
        timer._mark(began, began + 4.0)
    bin_s, bins = timer.timeline()
    assert sum(bins) == pytest.approx(400)
    assert bin_s * len(bins) >= 1000
    assert max(bins) <= bin_s + 1e-9


def test_a_thread_that_was_abandoned_is_replaced() -> None:
    workers = WorkerThreads(1, StageTimer(), "decode")
    stuck = Job(lambda: time.sleep(30))
    workers.submit(stuck)
    while stuck.started_at is None:
        time.sleep(0.01)
    workers.abandon(stuck)
    job = Job(lambda: 7)
    workers.submit(job)
    assert job.is_finished.wait(10)
    assert job.result() == 7
    workers.close()


@pytest.mark.parametrize(
    ("waited_s", "processor_s", "threads"),
    [(0.9, 0.1, [2, 4, 7, 10]), (0.9, 1.9, [1, 1, 1, 1]), (0.9, 1.5, [2, 3, 4, 5]), (0.2, 0.1, [1, 1, 1, 1])],
    ids=["cores are idle", "cores are busy", "half a core is idle", "nobody waits"],
)
def test_threads_become_more_while_the_others_wait_and_cores_are_idle(
    waited_s: float, processor_s: float, threads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    now, used = 0.0, 0.0
    monkeypatch.setattr(pools, "time", SimpleNamespace(monotonic=lambda: now, process_time=lambda: used))
    workers = WorkerThreads(1, StageTimer(), "decode")
    crew = AdaptivePool(workers, cores=4 if processor_s < 1 else 2)
    counts = []
    for _ in range(4):
        now, used = now + 1.0, used + processor_s
        crew.add_waiting(waited_s)
        counts.append(workers.count)
    assert counts == threads
    workers.close()

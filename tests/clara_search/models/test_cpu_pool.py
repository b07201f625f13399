"""Batches on all cores of a CPU: all are done, errors are raised, and torch keeps its threads."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from clara_search.models.cpu_pool import core_pool, map_batches, split_budget
from clara_search.models.registry import load_encoder

CPU = torch.device("cpu")


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_every_batch_is_done_once_on_one_core_each_and_torch_keeps_its_threads() -> None:
    done: list[tuple[int, int, str]] = []

    def work(number: int) -> None:
        time.sleep(0.01)
        done.append((number, torch.get_num_threads(), threading.current_thread().name))

    map_batches(work, range(20), CPU)
    assert sorted(number for number, _, _ in done) == list(range(20))
    assert {threads for _, threads, _ in done} == {1}
    assert 1 < len({name for _, _, name in done}) <= 3
    seen: list[int] = []
    later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert (torch.get_num_threads(), seen) == (3, [3])


@pytest.mark.usefixtures("three_threads")
def test_the_error_of_a_batch_is_raised_once_all_are_done() -> None:
    done: list[int] = []

    def work(number: int) -> None:
        if number == 0:
            raise MemoryError("no room")
        time.sleep(0.05)
        done.append(number)

    with pytest.raises(MemoryError, match="no room"):
        map_batches(work, range(4), CPU)
    assert sorted(done) == [1, 2, 3]


@pytest.mark.usefixtures("three_threads")
def test_a_batch_is_as_small_as_gives_every_core_two() -> None:
    assert split_budget(300, 1100, CPU) == 50
    assert split_budget(30_000, 1100, CPU) == 1100
    assert split_budget(300, 1100, torch.device("cuda")) == 1100


@pytest.mark.usefixtures("three_threads")
def test_in_the_core_pool_torch_has_one_thread_and_batches_stay_in_their_thread() -> None:
    def work(number: int) -> set[str]:
        names = {threading.current_thread().name}
        map_batches(lambda batch: names.add(threading.current_thread().name), range(4), CPU)
        assert torch.get_num_threads() == 1
        return names

    assert all(len(names) == 1 for names in core_pool().map(work, range(6)))
    assert torch.get_num_threads() == 3


@pytest.mark.slow
def test_vectors_do_not_depend_on_the_number_of_threads() -> None:
    encoder, rng, before = load_encoder(), np.random.default_rng(0), torch.get_num_threads()
    clips = [rng.standard_normal(n).astype(np.float32) * 0.1 for n in rng.integers(1000, 160_000, 12)]
    vectors = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            vectors.append(encoder.encode_audio(clips))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)

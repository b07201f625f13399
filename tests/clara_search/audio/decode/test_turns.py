"""Blocks are made by one thread at a time, and a forked process does not wait for its parent's threads."""

from __future__ import annotations

import os
import threading
import time

import pytest

from clara_search.audio.decode.turns import in_turn


def test_blocks_are_made_one_at_a_time_and_all_arrive():
    busy, most = 0, 0

    def blocks(count):
        nonlocal busy, most
        for number in range(count):
            busy += 1
            most = max(most, busy)
            time.sleep(0.001)
            busy -= 1
            yield number

    found = {}
    threads = [threading.Thread(target=lambda n=n: found.update({n: list(in_turn(blocks(20)))})) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert found == {n: list(range(20)) for n in range(4)}


def test_a_failure_lets_the_next_one_in():
    def broken():
        yield 1
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        list(in_turn(broken()))
    assert list(in_turn(iter([1, 2]))) == [1, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_turns_of_its_own():
    is_held, is_over = threading.Event(), threading.Event()

    def slow():
        is_held.set()
        is_over.wait(30)
        yield 1

    holder = threading.Thread(target=lambda: list(in_turn(slow())))
    holder.start()
    is_held.wait(30)
    child = os.fork()
    if child == 0:
        os._exit(0 if list(in_turn(iter([1]))) == [1] else 1)
    deadline = time.monotonic() + 30
    ended = (0, 0)
    while ended[0] == 0 and time.monotonic() < deadline:
        ended = os.waitpid(child, os.WNOHANG)
        time.sleep(0.01)
    is_over.set()
    holder.join()
    assert ended == (child, 0)

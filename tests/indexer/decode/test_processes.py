"""Decoding in processes: the same waveforms, and a decoder that crashes or hangs costs one file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clara_search.files.paths import FileStat
from clara_search.store.database import Database
from indexer.decode import processes as decode_processes
from indexer.decode import queue as decoding
from indexer.decode.prefetch import DecodeConfig, prefetch_items
from indexer.decode.processes import DecodeProcesses
from indexer.decode.read import Loaded, LoadedItem, LoadedWindow
from indexer.ledger.digest_map import DigestMap
from indexer.ledger.failures import failures
from indexer.ledger.snapshot import LedgerSnapshot
from indexer.pipeline import index
from indexer.sources.item import InMemoryBytes, InMemoryWaveform, Item
from indexer.sources.listing import list_items
from tests.helpers import ToneEncoder, write_tone

NOTHING = LedgerSnapshot(DigestMap(2), np.zeros(0, np.uint64), False)
IN_PROCESS = DecodeConfig(16000, backend="processes", workers=1)
IN_PROCESSES = DecodeConfig(16000, backend="processes", workers=2)

CRASHING = """
import os, signal, sys; sys.path[:] = sys.argv[1:]
import indexer.sources.item
stream_audio = indexer.sources.item.stream_audio
def load(source, rate, track):
    name = os.path.basename(source.name)
    if "crash" in name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hang" in name:
        import time; time.sleep(600)
    print("what a library says")
    return stream_audio(source, rate, track)
indexer.sources.item.stream_audio = load
from indexer.decode.processes import serve; serve()
"""


def settled(loaded: Iterable[Loaded]) -> Iterator[LoadedItem]:
    return (item for item in loaded if isinstance(item, LoadedItem))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(20):
        write_tone(tmp_path / "in" / f"{number:02}.wav", 100 + 50 * number, duration_s=0.3 + number / 10)
    (tmp_path / "in" / "bad.wav").write_text("no sound")
    return tmp_path / "in"


def test_processes_decode_what_threads_do(folder: Path) -> None:
    expected = list(prefetch_items(list_items([folder]), NOTHING, DecodeConfig(16000, backend="threads")))
    loaded = list(prefetch_items(list_items([folder]), NOTHING, IN_PROCESSES))
    assert [one.item for one in loaded] == [one.item for one in expected]
    for one, other in zip(loaded, expected, strict=True):
        if isinstance(one, LoadedWindow) and isinstance(other, LoadedWindow):
            np.testing.assert_array_equal(one.waveform, other.waveform)
        else:
            assert one == other


def test_a_decoder_that_crashes_costs_its_file(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_processes, "_SERVE", CRASHING)
    write_tone(folder / "05-crash.wav")
    write_tone(folder / "15-crash.wav")
    for path in folder.iterdir():
        os.utime(path, (1.6e9, 1.6e9))
    summary = index([folder], tmp_path / "db", ToneEncoder(), decode_backend="processes", workers=2)
    assert (summary.indexed, summary.failed) == (20, 3)
    reasons = {Path(one["uri"]).name: one["reason"] for one in failures(Database(tmp_path / "db"))}
    assert reasons["05-crash.wav"] == reasons["15-crash.wav"] == "the decoder crashed (SIGSEGV)"
    # It is not tried again before it is touched: a run that goes on shall not crash where the last one did.
    assert index([folder], tmp_path / "db", ToneEncoder(), decode_backend="threads").failed == 3


@pytest.mark.slow
def test_a_decoder_that_hangs_is_ended_with_its_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_processes, "_SERVE", CRASHING)
    monkeypatch.setattr(decoding, "_OVERTAKE_AFTER_S", 0.1)
    processes = remembered(monkeypatch)
    write_tone(folder / "05-hang.wav")
    how = DecodeConfig(16000, timeout_s=2.0, backend="processes", workers=1)
    loaded = {Path(one.item.uri).name: one for one in settled(prefetch_items(list_items([folder]), NOTHING, how))}
    assert loaded["05-hang.wav"].reason == "not decoded within 2 s: allow more time"
    assert sum(one.state == "fresh" for one in loaded.values()) == 20
    assert [child.exit_code for child in processes] == [-signal.SIGKILL] * 2


def test_a_process_that_is_killed_from_outside_costs_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    processes = remembered(monkeypatch)
    loaded = []
    for one in settled(prefetch_items(list_items([folder]), NOTHING, IN_PROCESS)):
        if not loaded:
            processes[0]._process.kill()
        loaded.append(one)
    assert sum(one.state == "fresh" for one in loaded) == 20


def test_where_no_process_can_begin_it_is_done_in_this_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_processes, "_SERVE", "raise SystemExit(1)")
    processes = remembered(monkeypatch)
    loaded = list(settled(prefetch_items(list_items([folder]), NOTHING, IN_PROCESS)))
    assert sum(one.state == "fresh" for one in loaded) == 20
    assert [child.exit_code for child in processes] == [1]


@pytest.mark.slow
def test_a_process_ends_when_the_one_that_began_it_does(folder: Path, tmp_path: Path) -> None:
    script = f"""
import sys, os
from indexer.decode import processes as decode_processes
from tests.indexer.decode.test_processes import CRASHING, IN_PROCESS, NOTHING
from clara_search.files.paths import FileStat
from indexer.sources.item import Item
import threading
decode_processes._SERVE = CRASHING
child = decode_processes._DecodeProcess(NOTHING, IN_PROCESS.windows)
item = Item("", "audio", {str(folder / "hang.wav")!r})
asking = threading.Thread(target=lambda: list(child.read([item], FileStat(1, ""))))
asking.daemon = True
asking.start()
while not child.is_ready:
    pass
print(child._process.pid, flush=True)
os._exit(0)
"""
    write_tone(folder / "hang.wav")
    result = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    deadline = time.monotonic() + 10
    while is_running(int(result.stdout)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def remembered(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list that fills with the processes that are started."""
    processes: list[Any] = []
    begin = decode_processes._DecodeProcess.__init__
    monkeypatch.setattr(
        decode_processes._DecodeProcess, "__init__", lambda self, *a: (processes.append(self), begin(self, *a))[1]
    )
    return processes


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    "item",
    [
        Item("", "audio", "one", content=InMemoryWaveform(np.zeros(1600, np.float32), 16000)),
        Item("", "audio", "two", content=InMemoryBytes(b"RIFF")),
        Item("", "audio", "memory://nowhere/a.wav"),
    ],
)
def test_what_may_only_be_in_the_memory_of_this_process_is_decoded_in_it(
    item: Item, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode_processes, "_DecodeProcess", lambda *_: pytest.fail("a process was started"))
    *_, loaded = DecodeProcesses(NOTHING, IN_PROCESS.windows, "processes").read([item], FileStat(1, ""))
    assert isinstance(loaded, LoadedItem)
    assert loaded.state == ("fresh" if isinstance(item.content, InMemoryWaveform) else "failed")


def test_no_process_outlives_a_run_that_is_cut_off(folder: Path) -> None:
    stream = prefetch_items(list_items([folder]), NOTHING, IN_PROCESSES)
    next(stream)
    mine = [one for one in _children_of(os.getpid()) if "indexer.decode.processes" in one[1]]
    assert mine
    stream.close()
    deadline = time.monotonic() + 10
    while any(is_running(pid) for pid, _ in mine):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _children_of(parent: int) -> list[tuple[int, str]]:
    loaded = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if int((process / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                loaded.append((int(process.name), (process / "cmdline").read_text()))
        except OSError:
            continue
    return loaded

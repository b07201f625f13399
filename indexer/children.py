"""Reading and decoding in processes of their own.

A decoder that crashes costs the file that made it crash, and where there are many cores, those that decode do not stop
each other at the lock of the interpreter. On two cores that also embed it is slower than threads (81 % of the encoder's
throughput against 87 %), and so it has to be asked for.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from typing import IO, Any, Literal

from clara_search.places import Status, is_url
from indexer.items import Item, Part
from indexer.ledger import Known, stamp_of
from indexer.reading import Loaded, read

Place = Literal["threads", "processes"]
"""Where recordings are decoded."""

_PIPE_BYTES = 1 << 20
"""A waveform fits into such a pipe, where Linux gives one, so that who wrote it can go on."""

_SET_PIPE_SIZE = 1031
"""Linux's F_SETPIPE_SZ, which Python knows under its name only there."""

_SERVE = "import sys; sys.path[:] = sys.argv[1:]; from indexer.children import serve; serve()"


class Readers:
    """Reads files for the threads that ask: each of them has a process, or does it itself."""

    def __init__(self, known: Known, sample_rate: int, place: Place):
        self._known = known
        self._sample_rate = sample_rate
        self._place = place
        self._children: dict[int, _Child] = {}
        self._is_closed = False
        self._opening = threading.Lock()

    def read(self, items: list[Item], status: Status) -> list[Loaded]:
        """Return `items`, all of one file, loaded from it."""
        child = self._child() if self._is_for_a_process(items[0]) else None
        if child is None:
            return read(items, status, self._known, self._sample_rate)
        try:
            return child.read(items, status)
        except _Died as death:
            self._children.pop(threading.get_ident(), None)
            reason = f"the decoder crashed ({death})"
            return [Loaded(item, "failed", stamp=stamp_of(item, status), reason=reason) for item in items]

    def leave_behind(self, thread: int | None) -> None:
        """End the process of `thread`, which takes too long."""
        if thread is not None and (child := self._children.pop(thread, None)) is not None:
            child.kill()

    def close(self) -> None:
        """End all processes."""
        with self._opening:
            self._is_closed = True
        for child in list(self._children.values()):
            child.kill()

    def _is_for_a_process(self, item: Item) -> bool:
        is_here = item.content is None or isinstance(item.content, Part)  # not in the memory of this process
        return self._place != "threads" and is_here and not is_url(item.place)

    def _child(self) -> _Child | None:
        thread = threading.get_ident()
        with self._opening:
            if thread not in self._children and not self._is_closed and sys.executable:
                with suppress(OSError):  # no memory for one more process, say: then in this one
                    self._children[thread] = _Child(self._known, self._sample_rate)
        return self._children.get(thread)


class _Died(Exception):
    """A process ended before it answered."""


class _Child:
    """A process that answers one thread."""

    def __init__(self, known: Known, sample_rate: int):
        # Not of the group that a terminal interrupts: whoever began it ends it.
        command = [sys.executable, "-c", _SERVE, *sys.path]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        _widen(self._from)
        with suppress(OSError):  # it died already: the first question shows that
            _send(self._to, (known, sample_rate))

    def read(self, items: list[Item], status: Status) -> list[Loaded]:
        try:
            _send(self._to, (items, status))
            found: list[Loaded] = _receive(self._from)
        except (OSError, EOFError, ValueError) as error:  # ValueError: a pipe that was closed
            self.kill()
            raise _Died(_ending(self._process.returncode)) from error
        return found

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def serve() -> None:
    """Answer the questions that come in, until nobody asks any more: what such a process does."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not come between
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, BrokenPipeError):
        known, sample_rate = _receive(sys.stdin.buffer)
        while True:
            items, status = _receive(sys.stdin.buffer)
            _send(answers, read(items, status, known, sample_rate))


def _send(to: Any, message: Any) -> None:
    """Write `message`: how many parts there are, how long they are, and the parts; arrays are parts of their own."""
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    parts = [memoryview(pickled), *(buffer.raw() for buffer in buffers)]
    to.write(struct.pack(f"<{1 + len(parts)}Q", len(parts), *(part.nbytes for part in parts)))
    for part in parts:
        to.write(part)
    to.flush()


def _receive(source: IO[bytes]) -> Any:
    """Return the next message. Raises EOFError where there is none."""
    (count,) = struct.unpack("<Q", _exactly(source, 8))
    lengths = struct.unpack(f"<{count}Q", _exactly(source, 8 * count))
    pickled, *buffers = [_exactly(source, length) for length in lengths]
    return pickle.loads(pickled, buffers=buffers)


def _exactly(source: IO[bytes], length: int) -> bytearray:
    found = bytearray(length)
    view, there = memoryview(found), 0
    while there < length:
        more = source.readinto(view[there:])  # type: ignore[attr-defined]
        if not more:
            raise EOFError
        there += more
    return found


def _widen(pipe: Any) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    with suppress(OSError):
        fcntl.fcntl(pipe.fileno(), _SET_PIPE_SIZE, _PIPE_BYTES)


def _ending(code: int | None) -> str:
    """Return how a process ended, in words."""
    if code is None or code >= 0:
        return f"exit {code}"
    return signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"

"""Reading and decoding in processes of their own.

A decoder that crashes costs the file that made it crash, and where there are many cores, those that decode do not stop
each other at the lock of the interpreter. On two cores that also embed it is slower than threads (80 and 87 % of the
encoder's throughput in two runs, against 85 and 90 %), and so it has to be asked for.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import IO, Any, Literal

from clara_search.files.paths import FileStat, is_url
from indexer.decode.read import LoadedItem, load_items
from indexer.ledger.ledger import LedgerSnapshot, file_stamp
from indexer.sources.item import ByteRange, Item

DecodeBackend = Literal["threads", "processes"]
"""Where recordings are decoded."""

_ATTEMPTS = 2
"""A process may also end for another reason than what it reads."""

_ENDS_IN_S = 1.0

_PIPE_BYTES = 1 << 20
"""A waveform fits into such a pipe, where Linux gives one, so that who wrote it can go on."""

_SET_PIPE_SIZE = 1031
"""Linux's F_SETPIPE_SZ, which Python knows under its name only there."""

_SERVE = "import sys; sys.path[:] = sys.argv[1:]; from indexer.decode.processes import serve; serve()"


class DecodeProcesses:
    """Reads files for the threads that ask: each of them has a process, or does it itself."""

    def __init__(self, known: LedgerSnapshot, sample_rate: int, place: DecodeBackend):
        self._known = known
        self._sample_rate = sample_rate
        self._place = place
        self._children: dict[int, _Child] = {}
        self._is_closed = False
        self._opening = threading.Lock()

    def read(self, items: list[Item], status: FileStat) -> list[LoadedItem]:
        """Return `items`, all of one file, loaded from it."""
        ending: int | None = None
        for _ in range(_ATTEMPTS if self._is_for_a_process(items[0]) else 0):
            child = self._child()
            if child is None:
                break
            try:
                return child.read(items, status)
            except _Died:
                self._children.pop(threading.get_ident(), None)
                ending = child.ending
            if child.is_ended:  # by this process: nobody waits for an answer
                return []
            if not child.has_begun:  # and so will no other
                self._place = "threads"
                ending = None
                break
        if ending is None:
            return load_items(items, status, self._known, self._sample_rate)
        reason = f"the decoder crashed ({_named(ending)})"
        # What was killed from outside is not to blame: the next run tries it again.
        blame = ending != -signal.SIGKILL
        return [
            LoadedItem(one, "failed", stamp=file_stamp(one, status) if blame else "", reason=reason) for one in items
        ]

    def leave_behind(self, thread: int | None) -> None:
        """End the process of `thread`, which takes too long."""
        if thread is not None and (child := self._children.pop(thread, None)) is not None:
            child.end()

    def close(self) -> None:
        """End all processes."""
        with self._opening:
            self._is_closed = True
        for child in list(self._children.values()):
            child.end()

    def _is_for_a_process(self, item: Item) -> bool:
        is_here = item.content is None or isinstance(item.content, ByteRange)  # not in the memory of this process
        return self._place != "threads" and is_here and not is_url(item.file)

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
    """A process that answers one thread.

    Attributes:
        has_begun: whether it answered at all.
        is_ended: whether it was ended on purpose.
        ending: its exit status, negative for a signal; None while it runs.
    """

    def __init__(self, known: LedgerSnapshot, sample_rate: int):
        self.has_begun = self.is_ended = False
        # Not of the group that a terminal interrupts: whoever began it ends it.
        command = [sys.executable, "-c", _SERVE, *sys.path]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin, self._process.stdout
        _widen(self._from)
        with suppress(OSError):  # it died already: the first question shows that
            _send(self._to, (known, sample_rate))

    def read(self, items: list[Item], status: FileStat) -> list[LoadedItem]:
        try:
            if not self.has_begun:
                self.has_begun = bool(pickle.load(self._from))
            _send(self._to, (items, status))
            found: list[LoadedItem] = pickle.load(self._from)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_ENDS_IN_S)
            self._process.kill()
            self._process.wait()
            raise _Died from error
        return found

    @property
    def ending(self) -> int | None:
        return self._process.returncode

    def end(self) -> None:
        self.is_ended = True
        self._process.kill()
        self._process.wait()


def serve() -> None:
    """Answer the questions that come in, until nobody asks any more: what such a process does."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not come between
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    with suppress(EOFError, BrokenPipeError):
        known, sample_rate = pickle.load(sys.stdin.buffer)
        _send(answers, "ready")
        while True:
            items, status = pickle.load(sys.stdin.buffer)
            _send(answers, load_items(items, status, known, sample_rate))


def _end_with(parent: int) -> None:
    """End this process when its `parent` has ended, whatever it is doing."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _send(to: IO[bytes], message: object) -> None:
    pickle.dump(message, to, protocol=5)
    to.flush()


def _widen(pipe: Any) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    with suppress(OSError):
        fcntl.fcntl(pipe.fileno(), _SET_PIPE_SIZE, _PIPE_BYTES)


def _named(ending: int) -> str:
    """Return how a process ended, in words."""
    if ending >= 0:
        return f"exit {ending}"
    return signal.Signals(-ending).name if -ending in set(signal.Signals) else f"signal {-ending}"

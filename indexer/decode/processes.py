"""Reading and decoding in processes.

A decoder that crashes costs only the file that it reads, and on many cores the decoders do not share the lock of the
interpreter. On two cores that also embed, processes are slower than threads (80 and 87 % of the encoder's throughput in
two runs, against 85 and 90 %), and so they are not the default.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import IO, Any, Literal

from clara_search.files.limits import changed_limits, set_limits
from clara_search.files.paths import FileStat, is_url
from clara_search.files.shards import ByteRange
from clara_search.system import KILLED, detached
from indexer.decode.memory import limit_memory
from indexer.decode.read import DecodeWindows, Loaded, LoadedItem, load_items
from indexer.ledger.ledger import file_stamp
from indexer.ledger.snapshot import LedgerSnapshot
from indexer.sources.item import Item

DecodeBackend = Literal["threads", "processes"]
"""Whether threads decode recordings themselves, or each has a process do it."""

_ATTEMPTS = 2
"""A process may also end for other reasons than the file that it reads."""

_EXIT_TIMEOUT_S = 1.0

_PIPE_BYTES = 1 << 20
"""Pipe size on Linux: a waveform fits, so that its writer can continue."""

_SET_PIPE_SIZE = 1031
"""Linux's F_SETPIPE_SZ, which Python defines on Linux only."""

_log = logging.getLogger(__name__)

_SERVE = "import sys; sys.path[:] = sys.argv[1:]; from indexer.decode.processes import serve; serve()"


class DecodeProcesses:
    """Reads files for several threads: each has a process of its own, or reads itself."""

    def __init__(self, known: LedgerSnapshot, windows: DecodeWindows, backend: DecodeBackend):
        self._known = known
        self._windows = windows
        self._backend = backend
        self._processes: dict[int, _DecodeProcess] = {}
        self._is_closed = False
        self._starting = threading.Lock()

    def read(self, items: list[Item], stat: FileStat) -> Iterator[Loaded]:
        """Yield `items`, all of one file, as it is decoded, as `load_items` does."""
        exit_code: int | None = None
        passed, failing = 0, {item.key for item in items}
        for _ in range(_ATTEMPTS if self._needs_process(items[0]) else 0):
            process = self._process_of_thread()
            if process is None:
                break
            try:
                # A file decodes the same way again: what the process before had passed on is left out.
                for loaded in islice(process.read(items, stat), passed, None):
                    passed += 1
                    failing -= {loaded.item.key} if isinstance(loaded, LoadedItem) else set()
                    yield loaded
                return
            except _ProcessEnded:
                self._processes.pop(threading.get_ident(), None)
                exit_code = process.exit_code
            if process.is_killed:  # by this program: nobody waits for an answer
                return
            if not process.is_ready:  # it never started, and others will not either
                _log.warning("decoding in threads: a process cannot be started")
                self._backend = "threads"
                exit_code = None
                break
        if exit_code is None:
            yield from load_items(items, stat, self._known, self._windows)
            return
        reason = f"the decoder crashed ({_exit_name(exit_code)})"
        _log.warning("%s: %s", items[0].uri, reason)
        # A process that was killed from outside is not the file's fault: the next run tries again.
        is_final = exit_code != KILLED
        for item in (item for item in items if item.key in failing):
            yield LoadedItem(item, "failed", stamp=file_stamp(item, stat) if is_final else "", reason=reason)

    def abandon(self, thread: int | None) -> None:
        """Kill the process of a thread."""
        if thread is not None and (process := self._processes.pop(thread, None)) is not None:
            process.kill()

    def close(self) -> None:
        """Kill all processes."""
        with self._starting:
            self._is_closed = True
        for process in list(self._processes.values()):
            process.kill()

    def _needs_process(self, item: Item) -> bool:
        is_file = item.content is None or isinstance(item.content, ByteRange)  # not in the memory of this process
        return self._backend != "threads" and is_file and not is_url(item.file)

    def _process_of_thread(self) -> _DecodeProcess | None:
        thread = threading.get_ident()
        with self._starting:
            if thread not in self._processes and not self._is_closed and sys.executable:
                with suppress(OSError):  # no memory for another process, say: then decode in this one
                    self._processes[thread] = _DecodeProcess(self._known, self._windows)
        return self._processes.get(thread)


class _ProcessEnded(Exception):
    """A process ended before it answered."""


class _DecodeProcess:
    """A process that answers one thread.

    Attributes:
        is_ready: whether it ever answered.
        is_killed: whether this program killed it.
    """

    def __init__(self, known: LedgerSnapshot, windows: DecodeWindows):
        self.is_ready = self.is_killed = False
        command = [sys.executable, "-c", _SERVE, *sys.path]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **detached())
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout
        _enlarge_pipe(self._answers)
        with suppress(OSError):  # it ended already: the first request shows that
            _send(self._requests, changed_limits())
            _send(self._requests, (known, windows))

    def read(self, items: list[Item], stat: FileStat) -> Iterator[Loaded]:
        """Yield what the process answers. Raises _ProcessEnded if it ends before the last answer."""
        is_over = False
        try:
            if not self.is_ready:
                self.is_ready = bool(pickle.load(self._answers))
            _send(self._requests, (items, stat))
            while (loaded := pickle.load(self._answers)) is not None:
                yield loaded
            is_over = True
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_EXIT_TIMEOUT_S)
            self._process.kill()
            self._process.wait()
            is_over = True
            raise _ProcessEnded from error
        finally:
            if not is_over:  # the rest of its answers must not be taken for those of the next request
                self.kill()

    @property
    def exit_code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self._process.returncode

    def kill(self) -> None:
        self.is_killed = True
        self._process.kill()
        self._process.wait()


def serve() -> None:
    """Answer requests on stdin until it is closed: the program of a decoding process."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output of libraries must not mix with the answers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with, args=(os.getppid(),), daemon=True).start()
    with suppress(EOFError, BrokenPipeError):
        set_limits(pickle.load(sys.stdin.buffer))
        limit_memory()
        known, windows = pickle.load(sys.stdin.buffer)
        _send(answers, "ready")
        while True:
            items, stat = pickle.load(sys.stdin.buffer)
            for loaded in load_items(items, stat, known, windows):
                _send(answers, loaded)
            _send(answers, None)


def _exit_with(parent: int) -> None:
    """End this process when its `parent` has ended."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _send(stream: IO[bytes], message: object) -> None:
    pickle.dump(message, stream, protocol=5)
    stream.flush()


def _enlarge_pipe(pipe: Any) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    with suppress(OSError):
        fcntl.fcntl(pipe.fileno(), _SET_PIPE_SIZE, _PIPE_BYTES)


def _exit_name(exit_code: int) -> str:
    if exit_code >= 0:
        return f"exit {exit_code}"
    return signal.Signals(-exit_code).name if -exit_code in set(signal.Signals) else f"signal {-exit_code}"

"""Signals that end a run: after the first one it commits its batches, the second one ends it at once."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, current_thread, main_thread

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""From a terminal, a service manager, a terminal that is closed, and the terminal of Windows."""


class StopSignal(Event):
    """An event that the first signal sets.

    Attributes:
        number: number of that signal; None before.
    """

    number: int | None = None

    @property
    def exit_code(self) -> int:
        """Exit code of a run that the signal ended, as shells count: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + (self.number or 0)


@contextmanager
def stop_on_signals() -> Iterator[StopSignal]:
    """Yield an event that the first SIGINT, SIGTERM or SIGHUP sets; a second signal ends the process.

    A signal that is ignored stays so: `nohup` ignores SIGHUP.
    """
    stop = StopSignal()

    def handle(number: int, frame: object) -> None:
        if stop.is_set():
            _write_error("\nStopped at once. The same command continues here.\n")
            os._exit(128 + number)
        stop.number = number
        stop.set()
        if number == signal.SIGINT:
            text = "Finishing the current batch; Ctrl-C again stops at once."
        else:
            text = f"{signal.Signals(number).name}: finishing the current batch; a second signal stops at once."
        if not _write_error(f"\n{text}\n"):
            _replace_terminal()

    with restored_handlers():
        for number in _numbers():
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, handle)
        yield stop


@contextmanager
def restored_handlers() -> Iterator[None]:
    """Restore the handlers of these signals at the end: some libraries set their own."""
    is_main = current_thread() is main_thread()  # elsewhere handlers cannot be set
    before = {number: signal.getsignal(number) for number in _numbers()} if is_main else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # one that was not set from Python
                signal.signal(number, handler)


def _numbers() -> list[signal.Signals]:
    return [signal.Signals[name] for name in _NAMES if hasattr(signal, name)]


def _write_error(text: str) -> bool:
    """Write to stderr, and return whether that is possible: it may be a terminal that was closed."""
    with suppress(OSError):
        return os.write(2, text.encode()) > 0
    return False


def _replace_terminal() -> None:
    """Send the output to nowhere if its terminal was closed: the summary must not fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(descriptor).st_mode):
                os.dup2(nowhere, descriptor)
    os.close(nowhere)

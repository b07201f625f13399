"""Calls that differ between Linux, macOS and Windows; for the latter two they are tested piece by piece, on Linux."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

READ_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
"""Flags of `os.open` for reading: no waiting for the writer of a pipe, no translation of lines on Windows."""

NO_LINK_FLAGS = READ_FLAGS | getattr(os, "O_NOFOLLOW", 0)
"""The same, and refusing a symbolic link, where the system can."""

_SYNC_FLAGS = os.O_RDWR | getattr(os, "O_BINARY", 0) if sys.platform == "win32" else os.O_RDONLY
"""Windows syncs only what is open for writing."""

KILLED = -getattr(signal, "SIGKILL", 9) if sys.platform != "win32" else 1
"""Exit code of a process that was killed from outside."""


def detached() -> dict[str, Any]:
    """Return arguments of `subprocess.Popen` for a process that Ctrl-C in the terminal does not reach."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def is_running(pid: int) -> bool:
    """Tell whether there is a process of this number; True where that cannot be known."""
    if sys.platform == "win32":  # where signal 0 ends a process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # of another user
        return True
    return True


def sync_file(path: str) -> None:
    """Wait until the content of a file is on the disk; a file that is gone is none.

    Raises:
        OSError: It cannot be synced.
    """
    try:
        descriptor = os.open(path, _SYNC_FLAGS)
    except FileNotFoundError:  # another process compacted meanwhile
        return
    try:
        flush(descriptor)
    finally:
        os.close(descriptor)


def flush(descriptor: int) -> None:
    """Wait until what was written to an open file is on the disk, also past the cache of the disk itself.

    Raises:
        OSError: It cannot be synced.
    """
    full_sync = _full_sync()
    if full_sync is not None:
        with suppress(OSError):  # file systems of other systems cannot
            full_sync(descriptor)
            return
    os.fsync(descriptor)


def _full_sync() -> Callable[[int], object] | None:
    """Return macOS's call that empties the disk's own cache, which fsync leaves alone there."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    command = getattr(fcntl, "F_FULLFSYNC", None)
    return None if command is None else lambda descriptor: fcntl.fcntl(descriptor, command)

"""Who holds a lock: a note beside the lock file, for the process that waits and its user.

The lock itself is the system's, which releases it when its holder ends, however that happens; the note only tells.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from clara_search.errors import FormatError
from clara_search.files.json_reader import parse_object
from clara_search.files.redact import without_credentials
from clara_search.system import NO_LINK_FLAGS, is_running

_MAX_BYTES = 4096
_SHOWN = 200
_MARK = ".holder"


def note_holder(lock: Path) -> None:
    """Note beside a lock, which this process has to hold, that it does; a note that cannot be written is left out."""
    note = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": " ".join([Path(sys.argv[0]).name, *map(without_credentials, sys.argv[1:])])[:_SHOWN],
        "since": time.time(),
    }
    with suppress(OSError):
        descriptor = os.open(_note(lock), NO_LINK_FLAGS | os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:  # not one that is another file too
                os.ftruncate(descriptor, 0)
                json.dump(note, file)


def forget_holder(lock: Path) -> None:
    """Remove the note beside a lock that this process is about to release."""
    with suppress(OSError):
        os.unlink(_note(lock))  # noqa: PTH108 - at every commit


def describe_holder(lock: Path) -> str:
    """Return in words who noted that it holds a lock; a folder may be anybody's, so the words are short and printable.

    Returns:
        Such as "process 712 on studio (clara-search index ...), since 2026-11-28 02:15:04".
    """
    try:
        descriptor = os.open(_note(lock), NO_LINK_FLAGS)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return "another process"
            note = parse_object(file.read(_MAX_BYTES), lock)
        pid, host, command = int(note["pid"]), _shown(note["host"]), _shown(note["command"])
        since = datetime.fromtimestamp(float(note["since"])).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OSError, FormatError, ValueError, TypeError, KeyError, OverflowError):  # no note, or none of ours
        return "another process"
    has_ended = host == socket.gethostname() and not is_running(pid)
    ended = ", which has ended: another one that left no note holds the lock" if has_ended else ""
    return f"process {pid} on {host} ({command}), since {since}{ended}"


def _note(lock: Path) -> str:
    return f"{lock}{_MARK}"


def _shown(text: object) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in str(text)[:_SHOWN])

"""Which content a file had when it was read last, so that one of the same size and time is not read again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from clara_search.datasets.example import ByteRange
from clara_search.datasets.labelled import Clip

_Stamp = tuple[str, int, int, int]
"""Place, offset within it, size in bytes and time of modification in nanoseconds."""


class FileHashes:
    """The SHA-256 of files by their place, size and time; a context, in which more can be noted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[_Stamp, bytes] = {}
        self._status: dict[str, os.stat_result] = {}
        content = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        for line in content.splitlines():
            noted = _noted(line)
            if noted is not None:
                self._known[noted[0]] = noted[1]

    def known(self, clip: Clip) -> bytes | None:
        """Return the digest of a clip's file, if it is as it was."""
        try:
            return self._known.get(self._stamp(clip))
        except (OSError, ValueError):
            return None

    def __enter__(self) -> FileHashes:
        self._file = self._path.open("a", encoding="utf-8")
        self._file.write("\n")  # ends a line that a run which was killed has begun
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def note(self, clip: Clip, digest: bytes) -> None:
        """Remember what was read."""
        try:
            stamp = self._stamp(clip)
        except OSError:  # it went since it was read
            return
        if self._known.get(stamp) != digest:
            self._known[stamp] = digest
            self._file.write(json.dumps([*stamp, digest.hex()]) + "\n")

    def _stamp(self, clip: Clip) -> _Stamp:
        if not isinstance(clip.audio, ByteRange):
            status = clip.audio.stat()
            return str(clip.audio), 0, status.st_size, status.st_mtime_ns
        place = clip.audio.place
        if place not in self._status and "://" not in place:
            self._status[place] = os.stat(place)  # noqa: PTH116 - a place is a string
        mtime = self._status[place].st_mtime_ns if place in self._status else 0
        return os.path.abspath(place), clip.audio.offset, clip.audio.size, mtime  # noqa: PTH100


def _noted(line: str) -> tuple[_Stamp, bytes] | None:
    """Return what a line says; None for one that is empty, was cut short, or is none of ours."""
    try:
        found: Any = json.loads(line)
        place, offset, size, mtime, digest = found
        content = bytes.fromhex(digest)
        known = str(place), int(offset), int(size), int(mtime)
    except (ValueError, TypeError):
        return None
    return (known, content) if len(content) == 32 else None

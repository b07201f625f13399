"""SHA-256 of files as they were read last: a file of the same size and version token is not read again."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from clara_search.audio.segments import format_segment
from clara_search.datasets.labelled import Clip
from clara_search.errors import ClaraError, FormatError
from clara_search.files.json_reader import parse_json
from clara_search.files.paths import FileStat, normalize_path, stat_file
from clara_search.files.shards import ByteRange

_Key = tuple[str, int, int, str]
"""Path or URL with the segment, offset within it, size in bytes, and the token that changes when it is written."""


class FileHashes:
    """SHA-256 of recordings by file, size and version token, kept in a JSON lines file; a context that records more."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hashes: dict[_Key, bytes] = {}
        self._shard_stats: dict[str, FileStat] = {}
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        for line in lines:
            entry = _parse_line(line)
            if entry is not None:
                self._hashes[entry[0]] = entry[1]

    def get(self, clip: Clip) -> bytes | None:
        """Return the SHA-256 of a clip's recording; None if it is unknown, or may have changed since it was read."""
        key = self._key(clip)
        return None if key is None else self._hashes.get(key)

    def __enter__(self) -> FileHashes:
        self._file = self._path.open("a", encoding="utf-8")
        self._file.write("\n")  # ends the half line that a killed run may have left
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def record(self, clip: Clip, digest: bytes) -> None:
        """Remember the SHA-256 of a clip's recording, which was just read."""
        key = self._key(clip)
        if key is not None and self._hashes.get(key) != digest:
            self._hashes[key] = digest
            self._file.write(json.dumps([*key, digest.hex()]) + "\n")

    def _key(self, clip: Clip) -> _Key | None:
        """Return the key of a clip's recording; None if its file is missing, or too young for its token to be sure."""
        audio = clip.audio
        try:
            if isinstance(audio, ByteRange):
                if audio.path not in self._shard_stats:
                    self._shard_stats[audio.path] = stat_file(audio.path)
                path, offset, size, token = audio.path, audio.offset, audio.size, self._shard_stats[audio.path].token
            else:
                path, offset, (size, token) = str(audio), 0, stat_file(audio)
        except (OSError, ValueError, ClaraError):
            return None
        return (normalize_path(path) + format_segment(clip.start_s, clip.end_s), offset, size, token) if token else None


def _parse_line(line: str) -> tuple[_Key, bytes] | None:
    """Return the key and hash in a line; None for an empty line, half a line or any other content."""
    try:
        fields: Any = parse_json(line, "a cached hash")
        path, offset, size, token, digest = fields
        content = bytes.fromhex(digest)
        key = str(path), int(offset), int(size), str(token)
    except (ValueError, TypeError, FormatError):
        return None
    return (key, content) if len(content) == 32 else None

"""Where the bytes of a recording are: in memory, in a file, or in a part of a file."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from clara_search.errors import AudioError
from clara_search.files.limits import AUDIO_BYTES, MIB

_BUFFER_BYTES = 1 << 18
_MEMORY_BYTES = 16 * MIB
"""Files of up to this size are read whole; from larger ones a decoder takes what it needs."""


@dataclass(frozen=True)
class AudioSource:
    """The bytes of a recording; they can be read several times.

    Attributes:
        name: Name of the recording, for errors.
        content: The bytes, or the path of the file that holds them.
        offset: The first byte in `content`.
        size: Number of bytes.
    """

    name: str
    content: bytes | Path
    offset: int
    size: int

    @classmethod
    def of(cls, source: AudioSource | str | Path | bytes | BinaryIO) -> AudioSource:
        """Return a path, the bytes of a file, or a binary file object, which is read to its end, as a source.

        Raises:
            AudioError: It cannot be read, or holds nothing.
        """
        if isinstance(source, AudioSource):
            return source
        name = f"<{len(source)} bytes>" if isinstance(source, bytes) else str(getattr(source, "name", source))
        content: bytes | Path
        try:
            if isinstance(source, (str, Path)):
                name, content = str(source), Path(source)
                size = content.stat().st_size
                AUDIO_BYTES.check(size, name, AudioError)
                if size <= _MEMORY_BYTES or not content.is_file():
                    content = content.read_bytes()
                    size = len(content)
            else:
                content = source if isinstance(source, bytes) else source.read()
                size = len(content)
        except OSError as error:
            raise AudioError(f"{name}: {error.strerror or error}") from error
        AUDIO_BYTES.check(size, name, AudioError)
        if not size:
            raise AudioError(f"{name}: the file is empty (0 bytes)")
        return cls(name, content, 0, size)

    def open(self) -> BinaryIO:
        """Return the bytes as a file object that can seek. Raises OSError."""
        if isinstance(self.content, bytes):
            whole = self.offset == 0 and self.size == len(self.content)
            return io.BytesIO(self.content if whole else self.content[self.offset : self.offset + self.size])
        file = self.content.open("rb", buffering=0 if self.offset else _BUFFER_BYTES)
        if self.offset == 0 and file.seek(0, io.SEEK_END) <= self.size:
            file.seek(0)
            return file
        return io.BufferedReader(_Range(file, self.offset, self.size), _BUFFER_BYTES)

    def part(self, start: int, end: int) -> AudioSource:
        """Return the bytes from `start` to `end` as a source of the same name."""
        return replace(self, offset=self.offset + start, size=max(0, min(end, self.size) - start))

    def read(self, start: int, size: int) -> bytes:
        """Return `size` bytes from `start`, fewer at the end. Raises OSError."""
        if isinstance(self.content, bytes):
            end = min(start + size, self.size)
            return self.content[self.offset + start : self.offset + end]
        with self.content.open("rb") as file:
            file.seek(self.offset + start)
            return file.read(max(0, min(size, self.size - start)))


class _Range(io.RawIOBase):
    """A part of a file as a file object."""

    def __init__(self, file: BinaryIO, offset: int, size: int):
        super().__init__()
        self._file, self._offset, self._size, self._at = file, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._file.seek(self._offset + self._at)
        content = self._file.read(max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()

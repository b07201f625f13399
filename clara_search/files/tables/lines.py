"""The lines of text files and URLs: numbered, decoded, of bounded length."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing
from typing import BinaryIO, NamedTuple, cast

from clara_search.errors import ClaraError, ConfigError, FormatError
from clara_search.files.limits import ROW_BYTES
from clara_search.files.paths import local_path, open_source, unreadable
from clara_search.files.regular import size_of

_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_BUFFER_BYTES = 1 << 20
_REPLACED = "\ufffd"
"""What a decoder puts in the place of bytes that are no text."""


class Line(NamedTuple):
    """A line of a file.

    Attributes:
        number: Its number, from 1.
        text: Its text, with the line end.
        error: Why it cannot be used, if that is so.
    """

    number: int
    text: str
    error: ClaraError | None = None


def read_lines(path: str) -> Iterator[str]:
    """Yield the lines of a text file or URL, line ends included. Raises FormatError with one that is not UTF-8."""
    for line in numbered_lines(path):
        if line.error is not None:
            raise line.error
        yield line.text


def numbered_lines(path: str, encoding: str | None = None) -> Iterator[Line]:
    """Yield the lines of a file or URL, the broken ones with their error, without a byte order mark.

    Args:
        path: Path or URL.
        encoding: Its encoding; None: UTF-8, or UTF-16 where a byte order mark or the bytes of the first line show it.

    Raises:
        SourceError: The file cannot be read; `Unreachable` where it is a URL.
        ConfigError: There is no such encoding.
    """
    try:
        with closing(io.BufferedReader(_Raw(_open(path)), _BUFFER_BYTES)) as file:
            encoding = encoding or _detect(file.peek(64))
            lines = _read_utf8(file, path) if encoding is None else _read_encoded(file, path, encoding)
            yield from lines
    except OSError as error:
        raise unreadable(path, error) from error


def _open(path: str) -> BinaryIO:
    """Open a file or URL. A file that is mostly holes is refused: its one line would be read to the end."""
    file = open_source(path)
    if local_path(path) is not None:
        try:
            size_of(file, path)
        except BaseException:
            file.close()
            raise
    return file


class _Raw(io.RawIOBase):
    """A binary file, local or of a store, as `io.BufferedReader` takes it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: object) -> int:
        """Read into `buffer`; return the number of bytes."""
        view = memoryview(cast(bytearray, buffer)).cast("B")
        content = self._file.read(len(view))
        view[: len(content)] = content
        return len(content)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def _detect(head: bytes) -> str | None:
    """Return the encoding that the first bytes of a file show, None for UTF-8."""
    if head.startswith(_UTF16_MARKS):
        return "utf-16"
    for first_byte, name in ((0, "utf-16-be"), (1, "utf-16-le")):  # ASCII letters have a zero byte
        zeros, others = head[first_byte:40:2], head[1 - first_byte : 40 : 2]
        if len(others) > 1 and not any(zeros) and all(others):
            return name
    return None


def _read_utf8(file: BinaryIO, path: str) -> Iterator[Line]:
    longest = ROW_BYTES.value
    number = 0
    while raw := file.readline(longest + 1):
        number += 1
        if number == 1:
            raw = raw.removeprefix(_UTF8_MARK)
        if len(raw) > longest:
            _skip_line(file, longest)
            yield Line(number, "", ROW_BYTES.exceeded(f"{path}, line {number}"))
            continue
        try:
            yield Line(number, raw.decode())
        except UnicodeDecodeError as error:
            yield Line(number, raw.decode("utf-8", "replace"), _not_utf8(raw, f"{path}, line {number}", error))


def _skip_line(file: BinaryIO, longest: int) -> None:
    while (rest := file.readline(longest)) and not rest.endswith(b"\n"):
        pass


def _not_utf8(raw: bytes, where: str, error: UnicodeDecodeError) -> FormatError:
    try:
        hint = f"; it may be cp1252, as Windows writes text ({raw[error.start : error.start + 12].decode('cp1252')!r})"
    except UnicodeDecodeError:
        hint = ""
    return FormatError(f"{where}: not UTF-8 ({error.reason}){hint}: name the `encoding`, or save the file as UTF-8")


def _read_encoded(file: io.BufferedReader[_Raw], path: str, encoding: str) -> Iterator[Line]:
    try:
        text = io.TextIOWrapper(file, encoding, errors="replace", newline="\n")
    except LookupError as error:
        raise ConfigError(f"no encoding is called {encoding!r}") from error
    longest, number = ROW_BYTES.value, 0
    while line := text.readline(longest + 1):
        number += 1
        where = f"{path}, line {number}"
        if number == 1:
            line = line.removeprefix("\ufeff")
        if len(line) > longest:
            while (rest := text.readline(longest)) and not rest.endswith("\n"):
                pass
            yield Line(number, "", ROW_BYTES.exceeded(where))
        elif _REPLACED in line:
            yield Line(number, line, FormatError(f"{where}: not {encoding}"))
        else:
            yield Line(number, line)

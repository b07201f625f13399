"""Text of other people, shown: file names, captions, labels, model names, cards and errors as what they are.

Threat model. Whoever names a file or writes a caption would like to write to the clipboard of who lists it (OSC 52), to
hide or forge lines (cursor movements, newlines) or to show a name backwards (bidirectional controls). So characters of
the categories Cc, Cf, Zl, Zp and Cs are shown as their escapes: by `printable` where a text is one line, and by
`guarded_streams` around each command, which nothing that is printed or logged goes around. JSON has them as JSON's own
escapes, which read back as the exact text.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import click

from clara_search.files.redact import redact
from clara_search.text.printable import HIDDEN, printable, printable_lines

_OWN_SEQUENCES = re.compile("(\x1b\\[[0-9;]*[mAK]|\r)")
"""Of the tables and progress bars on a terminal: colours, the line above, the end of the line."""


def echo_line(text: object, err: bool = False) -> None:
    """Print a text that may hold foreign names, on one line."""
    click.echo(printable(text), err=err)


def json_line(value: Any) -> str:
    """Return a value as JSON on one line. Whatever is hidden in a text is escaped, and read back exactly."""
    line = json.dumps(value, ensure_ascii=False, default=str)
    if not line.isprintable():
        line = "".join(json.dumps(x)[1:-1] if unicodedata.category(x) in HIDDEN else x for x in line)
    try:
        line.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return json.dumps(value, default=str)
    return line


@contextmanager
def guarded_streams() -> Iterator[None]:
    """Let nothing hidden through stdout and stderr, nor fail for a character that they cannot encode."""
    before = sys.stdout, sys.stderr
    formatter = logging.lastResort.formatter if logging.lastResort else None
    sys.stdout, sys.stderr = map(_guard, before)
    if logging.lastResort:
        logging.lastResort.setFormatter(OneLineFormatter())
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        if logging.lastResort:
            logging.lastResort.setFormatter(formatter)


class OneLineFormatter(logging.Formatter):
    """Messages on one line each, without credentials: they name files of other people."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the formatted message."""
        return printable(" ".join(redact(super().formatMessage(record)).split()))


class _GuardedStream:
    """A text stream that shows hidden characters as escapes. It has no `buffer`, which would go around that."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if not text.isprintable():
            parts = _OWN_SEQUENCES.split(text) if self._stream.isatty() else [text]
            text = "".join(part if number % 2 else printable_lines(part) for number, part in enumerate(parts))
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name in ("buffer", "detach"):
            raise AttributeError(name)
        return getattr(self._stream, name)


def _guard(stream: Any) -> Any:
    is_text = stream is not None and hasattr(stream, "write") and not isinstance(stream, _GuardedStream)
    return _GuardedStream(stream) if is_text else stream

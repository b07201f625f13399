"""Files and folders that a command leaves: whole or not at all, and one line where they cannot be written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from clara_search.errors import OutputError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a path to write to; once all is written, and on the disk, that file takes the place of one at `path`.

    Raises OutputError where it cannot be written, as on a full disk, and for a path that is there and is no file. What
    was at `path` then stays as it was.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        make_folder(path.parent)
        if path.exists() and not path.is_file():
            raise OutputError(f"{path}: is there, and is no file")
        partial.unlink(missing_ok=True)  # a link there would be written through
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def atomic_write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all. Raises as `atomic_path` does."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def make_folder(path: Path) -> Path:
    """Return the folder `path`, made where there is none. Raises OutputError where none can be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        writable = os.access(path, os.W_OK | os.X_OK)
    except (OSError, ValueError) as error:  # a name that no file can have is a ValueError
        raise OutputError(f"{path}: cannot be made ({getattr(error, 'strerror', None) or error})") from error
    if not writable:
        raise OutputError(f"{path}: cannot be written to")
    return path

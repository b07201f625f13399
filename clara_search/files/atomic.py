"""Atomic writes: a file or folder is there whole or not at all, and one that cannot be written is one line."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from clara_search.errors import OutputError
from clara_search.system import flush


@contextmanager
def atomic_path(path: Path, partial_suffix: str = ".partial", sync: bool = True) -> Iterator[Path]:
    """Yield a path to write to; at the end the file is moved to `path`, in place of one that is there.

    Args:
        path: The file to write; its folder is made if it is missing.
        partial_suffix: Added to the name while it is written. Threads that may write the same file need one each.
        sync: Whether to wait until the content is on the disk, so that a power cut leaves the old or the new file.

    Raises:
        OutputError: It cannot be written, or `path` is no file. What was at `path` then stays as it was.
    """
    partial = path.with_name(path.name + partial_suffix)
    try:
        make_folder(path.parent)
        if path.exists() and not path.is_file():
            raise OutputError(f"{path}: is there, and is no file")
        partial.unlink(missing_ok=True)  # a link there would be written through
        yield partial
        if sync:
            with partial.open("rb+") as file:
                flush(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


@contextmanager
def atomic_files(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """Yield a folder to write the files `names` to; at the end they are moved to `folder`, in that order.

    The first is moved when all are written: a folder that has the last one is complete.

    Raises:
        OutputError: A file cannot be written.
    """
    make_folder(folder)
    try:
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=folder) as temporary:
            yield Path(temporary)
            for name in names:
                (Path(temporary) / name).replace(folder / name)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error})") from error


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield a path to make a folder at, with its files; at the end it is moved to `folder`, which must not exist.

    Raises:
        OutputError: It cannot be written.
    """
    make_folder(folder.parent)
    try:
        # A name of its own: files beside the folder are the user's.
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
            partial = Path(temporary) / "partial"
            yield partial
            partial.rename(folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error})") from error


def atomic_write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in UTF-8, whole or not at all. Raises OutputError as `atomic_path` does."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def make_folder(path: Path) -> Path:
    """Make the folder `path` unless it exists, and return it. Raises OutputError where it cannot be written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        writable = os.access(path, os.W_OK | os.X_OK)
    except (OSError, ValueError) as error:  # a name that no file can have is a ValueError
        raise OutputError(f"{path}: cannot be made ({getattr(error, 'strerror', None) or error})") from error
    if not writable:
        raise OutputError(f"{path}: cannot be written to")
    return path

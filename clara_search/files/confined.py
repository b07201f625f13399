"""Changes inside the folder of a database or a run, which may come from somebody else: nothing outside is changed.

The folder itself may be a link: its user named it. Below it a link is an error, and so is a pipe, which would block, or
a device; only files whose names this project gives are deleted or renamed.
LanceDB, FAISS and pyarrow follow links: check what they are given.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from clara_search.errors import DatabaseError
from clara_search.files.holder import describe_holder, forget_holder, note_holder
from clara_search.files.regular import open_regular

PATIENCE_S = 10.0
"""Seconds for which a lock is waited for without a word."""

log = logging.getLogger(__name__)


def check_path(root: Path, path: Path) -> Path:
    """Return `path` if each of its components below `root` is a folder, a file, or missing.

    Raises:
        DatabaseError: A component is a link, a pipe or a device, or `path` leads out of `root`.
    """
    _lstat(root, path)
    return path


def check_tree(root: Path, folder: Path) -> Path:
    """Return `folder`, which need not exist, if it and all below it are folders and files.

    Raises:
        DatabaseError: There is a link, a pipe or a device, or a folder cannot be read.
    """
    folders = [str(check_path(root, folder))]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif not entry.is_file(follow_symlinks=False):
                        raise _foreign(entry.path, entry.is_symlink())
        except (FileNotFoundError, NotADirectoryError):  # not made yet, or gone since: another process compacts
            continue
        except OSError as error:
            raise _unusable(error) from error
    return folder


def make_folder(root: Path, folder: Path) -> Path:
    """Make `folder` unless it exists, and return it. Raises DatabaseError as `check_path`, or if it cannot be made."""
    check_path(root, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(error) from error
    return folder


def read_bytes(root: Path, path: Path, limit: int) -> bytes | None:
    """Return the content of a file, None if it is missing.

    Raises:
        DatabaseError: As `check_path` does, and for a file of more than `limit` bytes.
    """
    status = _lstat(root, path)
    if status is None:
        return None
    if status.st_size > limit:
        raise DatabaseError(f"{path}: has {status.st_size:,} bytes, and at most {limit:,} are expected")
    try:
        with open_regular(path) as file:
            content = file.read(limit + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(error) from error
    if len(content) > limit:  # of a file that grows
        raise DatabaseError(f"{path}: has more than {limit:,} bytes")
    return content


def rename(root: Path, path: Path, new: Path) -> Path:
    """Rename `path` to `new`, replacing a file of that name, and return it. Raises DatabaseError as `check_path`."""
    check_path(root, path)
    check_path(root, new)
    try:
        return path.replace(new)
    except OSError as error:
        raise _unusable(error) from error


def delete_file(root: Path, path: Path) -> None:
    """Delete a file if it exists. Raises DatabaseError as `check_path` does, or if it is no file."""
    check_path(root, path)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _unusable(error) from error


def delete_files(root: Path, folder: Path, own: re.Pattern[str], keep: Collection[str] = ()) -> int:
    """Delete the files directly in `folder` whose whole name matches `own`, except those in `keep`.

    Folders and files of other names stay, with a warning that names one of them.

    Returns:
        Number of entries that stay and are not in `keep`.

    Raises:
        DatabaseError: There is a link in `folder` or on the way to it, or a file cannot be deleted.
    """
    check_tree(root, folder)
    others = []
    try:
        for path in sorted(folder.iterdir()):
            if path.name in keep:
                continue
            if own.fullmatch(path.name) and stat.S_ISREG(path.lstat().st_mode):
                path.unlink(missing_ok=True)
            else:
                others.append(path)
    except OSError as error:
        raise _unusable(error) from error
    if others:
        log.warning("%s and %d others were not written by clara-search: left there", others[0], len(others) - 1)
    return len(others)


def remove_folder(root: Path, folder: Path) -> None:
    """Remove an empty folder. Raises DatabaseError as `check_path` does, or if it is not empty."""
    check_path(root, folder)
    try:
        folder.rmdir()
    except OSError as error:
        raise _unusable(error) from error


@contextmanager
def lock(root: Path, path: Path) -> Iterator[None]:
    """Hold the lock file `path`, which is made unless it exists, among all processes of this machine.

    Waits without a limit; after some seconds a warning says for whom.

    Raises:
        DatabaseError: It is a link, symbolic or hard, to another file, or it cannot be made or opened.
    """
    from filelock import FileLock, Timeout

    status = _lstat(root, path)
    if status is not None and (not stat.S_ISREG(status.st_mode) or (status.st_nlink > 1 and status.st_size)):
        # Most releases of filelock empty what they lock.
        raise DatabaseError(f"{path}: is no lock file of clara-search: remove it")
    file_lock = FileLock(path)
    try:
        try:
            file_lock.acquire(timeout=PATIENCE_S)
        except Timeout:  # a kind of OSError
            log.warning("waiting for %s, which %s holds", path, describe_holder(path))
            file_lock.acquire()
    except OSError as error:
        raise _unusable(error, path) from error
    note_holder(path)
    try:
        yield
    finally:
        forget_holder(path)
        file_lock.release()


def _lstat(root: Path, path: Path) -> os.stat_result | None:
    """Return the status of `path`, None if it is missing. Raises DatabaseError as `check_path` does."""
    names = path.relative_to(root).parts
    if ".." in names:
        raise DatabaseError(f"{path}: leads out of {root}")
    current, status = str(root), None
    for name in names:
        current = os.path.join(current, name)  # noqa: PTH118 - at every search
        try:
            status = os.lstat(current)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise _unusable(error, current) from error
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise _foreign(current, stat.S_ISLNK(status.st_mode))
    return status


def _foreign(path: str, is_link: bool) -> DatabaseError:
    if is_link:
        remedy = "remove the link, or put there what it names"
        return DatabaseError(f"{path}: is a link, which is not followed: nothing was changed; {remedy}")
    return DatabaseError(f"{path}: is a pipe, a socket or a device, which is not opened: remove it")


def _unusable(error: OSError | ValueError, path: str | Path | None = None) -> DatabaseError:
    name = path or getattr(error, "filename", None)
    return DatabaseError(f"{name}: cannot be used ({getattr(error, 'strerror', None) or error})")

"""Files that outlive a power cut: a commit syncs its files to the disk before anybody relies on them."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from clara_search.errors import OutputError
from clara_search.files.atomic import atomic_write_text
from clara_search.system import NO_LINK_FLAGS, sync_file

_UNNOTED = 32
_UNNOTED_SHARE = 0.1
"""Number and share of files that may be synced and not yet noted: the next process syncs them again."""


class FolderSync:
    """Brings the files below a folder to the disk, each once: files of a table are written once and never changed.

    LanceDB itself never calls fsync. Without it a commit that was acknowledged can be an empty file after a power cut.
    The file `notes` lists the files that other processes have synced, so that the first commit of a process does not
    sync a whole table again. It identifies a file by name, inode and change time: files written by a process that
    was killed, or written again under an old name, are synced. If the notes are lost or cut short, more is synced.
    """

    def __init__(self, folder: Path, notes: Path):
        self._folder = folder
        self._notes = notes
        self._synced: set[str] = set()
        self._unnoted = 0
        self._is_first = True

    def __call__(self) -> None:
        """Sync the files that are new since the last call, each before the folder that names it.

        Raises:
            OSError: A file cannot be synced.
        """
        noted = _read_lines(self._notes) if self._is_first else set()
        present: set[str] = set()
        for parent, _, names in os.walk(self._folder, topdown=False):
            paths = {os.path.join(parent, name) for name in names}  # noqa: PTH118 - many, as strings
            for path in sorted(paths - self._synced):
                if self._line(path) not in noted:
                    sync_file(path)
                    self._unnoted += 1
            sync_folder(Path(parent))
            present |= paths
        self._synced, self._is_first = present, False
        if self._unnoted > max(_UNNOTED, _UNNOTED_SHARE * len(present)):
            lines = sorted(filter(None, map(self._line, present)))
            with suppress(OutputError):  # files that are not noted are synced again
                atomic_write_text(self._notes, "".join(f"{line}\n" for line in lines))
            self._unnoted = 0

    def _line(self, path: str) -> str:
        """Return a line that identifies the file among all that ever had its name; empty if it is gone."""
        try:
            status = os.lstat(path)
        except FileNotFoundError:  # another process compacted meanwhile
            return ""
        return f"{status.st_ino} {status.st_ctime_ns} {os.path.relpath(path, self._folder)}"


def sync_folder(folder: Path) -> None:
    """Sync the names in `folder` to the disk, if its file system can sync a folder."""
    with suppress(OSError):
        sync_file(str(folder))


def _read_lines(path: Path) -> set[str]:
    """Return the complete lines of a regular file; no lines of a link, of a pipe, or of a file that cannot be read."""
    with suppress(OSError, UnicodeDecodeError):
        descriptor = os.open(path, NO_LINK_FLAGS)  # neither a link nor a pipe
        with os.fdopen(descriptor, encoding="utf-8") as file:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return set(file.read().split("\n")[:-1])
    return set()

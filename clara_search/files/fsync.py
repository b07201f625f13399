"""Files that outlive a power cut: what a commit wrote is told to the disk before anybody relies on it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


class FolderSync:
    """Brings the files below a folder to the disk, each once: files of a table are written once and never changed.

    LanceDB itself never calls fsync. Without it a commit that was acknowledged can be an empty file after a power cut.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._synced: set[str] = set()

    def __call__(self) -> None:
        """Sync what is new since the last call, files before the folders that name them. Raises OSError."""
        there: set[str] = set()
        for parent, _, names in os.walk(self._folder, topdown=False):
            new = {os.path.join(parent, name) for name in names} - self._synced  # noqa: PTH118 - many, as strings
            for path in sorted(new):
                _sync(path)
            sync_folder(Path(parent))
            there.update(os.path.join(parent, name) for name in names)  # noqa: PTH118
        self._synced = there


def sync_folder(folder: Path) -> None:
    """Bring the names in `folder` to the disk, where its file system can do that for a folder."""
    with suppress(OSError):
        _sync(str(folder))


def _sync(path: str) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # another process compacted meanwhile
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

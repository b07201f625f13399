"""Names of recordings in a table: as they are, or relative to a folder, so that both can be moved together."""

from __future__ import annotations

import os
from pathlib import Path

from clara_search.errors import ConfigError
from clara_search.files.gate import RefusedUri
from clara_search.files.paths import is_url, normalize_path, split_member

_RELATIVE = "./"
"""What relative names begin with: no path or URL does, and no name of a recording in memory should."""


class StoredNames:
    """The names of a table, which all that reads or writes them goes through.

    Args:
        folder: The folder that names in it are relative to; None: names are stored as they are.
    """

    def __init__(self, folder: str | None = None):
        self._folder = folder
        self._inside = None if folder is None else folder.rstrip("/") + "/"

    @classmethod
    def of(cls, database: Path, relative_to: str) -> StoredNames:
        """Return the names of a table in the folder `database`, which has `relative_to` in its metadata."""
        return cls(os.path.normpath(database / relative_to) if relative_to else None)

    def store(self, name: str) -> str:
        """Return a path, URL or `tar://KEY::SHARD` as the table stores it."""
        if self._inside is None:
            return name
        if (member := split_member(name)) is not None:
            return f"tar://{member[0]}::{self.store(member[1])}"
        if name == self._folder:
            return _RELATIVE
        return _RELATIVE + name.removeprefix(self._inside) if name.startswith(self._inside) else name

    def resolve(self, name: str) -> str:
        """Return the path or URL that a stored name stands for. Raises RefusedUri if it leads out of the folder."""
        if self._inside is None:
            return name
        if (member := split_member(name)) is not None:
            return f"tar://{member[0]}::{self.resolve(member[1])}"
        if not name.startswith(_RELATIVE):
            return name
        path = os.path.normpath(self._inside + name)
        if not (path.startswith(self._inside) or name == _RELATIVE):
            raise RefusedUri(f"{name!r} leads out of {self._folder}, which it is relative to")
        return path

    def show(self, name: str) -> str:
        """Return what `resolve` does; a name that leads out of the folder as it is stored."""
        try:
            return self.resolve(name)
        except RefusedUri:
            return name


def relative_folder(database: str, is_remote: bool, folder: str | Path) -> str:
    """Return `folder` relative to the folder of a database, as a table's metadata have it.

    Raises:
        ConfigError: One of the two is not on this machine.
    """
    if is_remote or is_url(folder):
        raise ConfigError(f"{folder}: names can be relative to a folder only if that and the database are local")
    try:
        return Path(os.path.relpath(normalize_path(folder), database)).as_posix()
    except ValueError as error:  # another drive
        raise ConfigError(f"{folder}: is on another drive than the database") from error

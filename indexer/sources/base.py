"""Options that every source format reads."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Selection:
    """Options for listing sources.

    Attributes:
        text_column: the column of manifests and shards that holds the text; None: "text".
        ignore: patterns of files and folders to leave out, matched with the name and with the path in its source.
        follow_symlinks: whether to follow symbolic links in folders.
    """

    text_column: str | None = None
    ignore: tuple[str, ...] = ()
    follow_symlinks: bool = False

    def is_ignored(self, path: str) -> bool:
        """Tell whether to leave out `path`, relative to its source."""
        name = path.rpartition("/")[2]
        return any(fnmatchcase(name, pattern) or fnmatchcase(path, pattern) for pattern in self.ignore)

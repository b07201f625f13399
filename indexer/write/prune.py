"""What the sources of a run cover: whether it is still there, and which entries of the ledger are gone from it."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from clara_search.errors import SourceError
from clara_search.files.gate import ForeignUri
from clara_search.files.paths import is_url, normalize_path
from clara_search.files.redact import without_credentials
from indexer.ledger.ledger import Ledger, LedgerEntry, is_missing
from indexer.sources.item import Item
from indexer.sources.listing import Recording, Source, resolve_sources


class PruneScope:
    """The places that `sources` name, as they were when the run began."""

    def __init__(self, sources: Sequence[Source]):
        named = [str(source) for source in sources if not isinstance(source, (Recording, ForeignUri))]
        self._patterns = [normalize_path(name) for name in named]
        located = [place for place in resolve_sources(sources) if isinstance(place, str)]
        folders = [place for place in located if not is_url(place) and Path(place).is_dir()]
        self._folders = {folder: _identity(folder) for folder in folders}
        self._files = {without_credentials(place) for place in located} - set(folders)

    def __str__(self) -> str:
        return ", ".join(sorted(self._files | set(self._folders)))

    def check(self) -> None:
        """Raise SourceError where a folder is no longer there, or another one is: what was unmounted has no files."""
        for folder, identity in self._folders.items():
            if _identity(folder) != identity:
                raise SourceError(
                    f"{folder}: is no longer there (unmounted?); when it is back, the same command goes on"
                )

    def gone(
        self, ledger: Ledger, was_seen: Callable[[str], bool], listed: Container[str] | None
    ) -> Iterator[LedgerEntry]:
        """Yield the entries of what is no longer in the sources: what `was_seen` does not know by its key.

        Of a folder that is what lies in it no longer, of a manifest or a text file what it no longer lists. Raises
        SourceError where a folder of which there are entries is empty, that is, not in `listed` (None: not asked).
        """
        for entry in ledger.scan():
            if was_seen(entry.key):
                continue
            if entry.source in self._files or self._is_lost_match(entry.source):
                yield entry
            elif self.is_gone_from_folder(entry.file):
                for folder in self._folders:
                    if listed is not None and folder not in listed and entry.file.startswith(f"{folder}{os.sep}"):
                        raise SourceError(
                            f"{folder}: has no recordings now (not mounted?), so nothing of it is removed; to give its "
                            "rows up, name the folder that it lies in"
                        )
                yield entry

    def is_gone_from_folder(self, file: str) -> bool:
        """Tell whether `file` lay in one of the folders and is there no longer."""
        if any(is_url(place) and file.startswith(f"{place}/") for place in self._files):
            return True  # its store was asked for all there is
        return file.startswith(tuple(f"{folder}{os.sep}" for folder in self._folders)) and is_missing(file)

    def _is_lost_match(self, source: str) -> bool:
        is_match = any(fnmatchcase(source, pattern) for pattern in self._patterns)
        return is_match and not is_url(source) and is_missing(source)


def is_unreachable(item: Item) -> bool:
    """Tell whether a file could be away with all of its folder."""
    return item.kind == "audio" and item.problem is None and item.content is None and not is_url(item.uri)


def _identity(folder: str) -> tuple[int, int] | None:
    try:
        status = Path(folder).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino

"""The scope of a run: the files, folders, URLs and patterns that its sources name, and whether they are still there."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import lru_cache
from pathlib import Path

from clara_search.errors import SourceError, first_line
from clara_search.files.gate import RefusedUri, admit_entry
from clara_search.files.listing import list_folder
from clara_search.files.paths import is_url, join
from clara_search.files.redact import without_credentials
from indexer.ledger.entry import LedgerEntry
from indexer.sources.item import Item
from indexer.sources.listing import ResolvedSources
from indexer.sources.registry import find_reader, is_folder_url


class PruneScope:
    """The files, folders, URLs and patterns that the sources of a run name, as they were when it began.

    The ledger's names carry no credentials, the sources' URLs may: they are compared without, and opened with them.
    """

    def __init__(self, sources: ResolvedSources):
        self._names = [source for source in sources.members if isinstance(source, str)]
        self._patterns = sources.patterns
        folders = [name for name in self._names if not is_url(name) and Path(name).is_dir()]
        self._folders = {folder: _identity(folder) for folder in folders}
        self._urls = [name for name in self._names if is_folder_url(name)]
        files = [file for name in self._names for file in find_reader(name).listed_files(name)]
        self._files = {without_credentials(file) for file in files}

    def __str__(self) -> str:
        return ", ".join(map(without_credentials, self._names))

    def check(self) -> None:
        """Raise SourceError if a folder is away or was replaced: an unmounted folder has no files."""
        for folder, identity in self._folders.items():
            if _identity(folder) != identity:
                raise SourceError(
                    f"{folder}: is no longer there (unmounted?); when it is back, the same command goes on"
                )

    def check_listed(self, gone: Iterable[str], listed: Collection[str]) -> None:
        """Raise SourceError if files are `gone` from a folder of which no source was `listed`."""
        empty = [folder for folder in self._folders if not any(_is_in(source, folder) for source in listed)]
        for file in gone if empty else ():
            for folder in empty:
                if _is_in(file, folder):
                    raise SourceError(
                        f"{folder}: has no recordings now (not mounted?), so nothing of it is removed; to give its "
                        "rows up, name the folder that it lies in"
                    )

    def check_stores(self) -> None:
        """Raise SourceError if a URL cannot be listed any longer: a store that is away has no files either."""
        for url in (*self._urls, *(pattern.base for pattern in self._patterns if is_url(pattern.base))):
            try:
                list_folder(url)
            except OSError as error:
                reason = error.strerror or first_line(error)
                raise SourceError(
                    f"{url}: cannot be listed any longer ({reason}), so nothing of it is removed"
                ) from error

    def covers(self, file: str) -> bool:
        """Tell whether a file lies in one of the folders or below one of the URLs."""
        return any(_is_in(file, folder) for folder in (*self._folders, *self._urls))

    def url_of(self, file: str) -> str | None:
        """Return the path or URL to open for a file in the scope: with the credentials of its source.

        None for a URL that no source leads to: the names in a ledger may be anybody's.
        """
        if not is_url(file):
            return file
        for folder in (*self._urls, *(pattern.base for pattern in self._patterns)):
            if _is_in(file, folder):
                return _with_credentials(file, folder)
        return None

    def proof_of_absence(self, entry: LedgerEntry) -> str | None:
        """Return the path or URL that must be missing before an entry that no source lists any longer is removed.

        Empty for an entry of a manifest or text file, which is read to its end; None for one of another source.
        """
        if entry.source in self._files:
            return ""
        if self.covers(entry.file):
            return self.url_of(entry.file)
        if any(pattern.matches(entry.source) for pattern in self._patterns):
            return self.url_of(entry.file if _is_in(entry.file, entry.source) else entry.source)
        return None


def is_unreachable(item: Item) -> bool:
    """Tell whether a file could be away with all of its folder."""
    return item.kind == "audio" and item.problem is None and item.content is None and not is_url(item.uri)


def _is_in(file: str, folder: str) -> bool:
    """Tell whether a file, named without credentials, is `folder` or lies in it."""
    public, head, tail = _bounds(folder)
    return file == public or (file.startswith(head) and file.endswith(tail))


def _with_credentials(file: str, folder: str) -> str | None:
    """Return the URL of a file in `folder` with the credentials of the folder's URL; None if the gate refuses it."""
    public, head, tail = _bounds(folder)
    try:
        return folder if file == public else admit_entry(folder, file[len(head) : len(file) - len(tail)])
    except RefusedUri:
        return None


@lru_cache(1024)
def _bounds(folder: str) -> tuple[str, str, str]:
    """Return `folder` without credentials, and what the names of all files in it begin and end with."""
    head, _, tail = without_credentials(join(folder, "\0")).partition("\0")
    return without_credentials(folder), head, tail


def _identity(folder: str) -> tuple[int, int] | None:
    try:
        status = Path(folder).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino

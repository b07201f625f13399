"""The source formats: built-in ones, and those of other packages."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from clara_search.errors import SourceError, first_line
from clara_search.files.paths import is_url
from indexer.sources.base import SourceReader
from indexer.sources.formats.folder import FolderReader, RecordingReader
from indexer.sources.formats.manifest import ManifestReader
from indexer.sources.formats.saved_dataset import SavedDatasetReader
from indexer.sources.formats.text import TextReader
from indexer.sources.formats.webdataset import ShardReader

ENTRY_POINT_GROUP = "clara_search.sources"
"""Group of entry points of other packages that name a subclass of `SourceReader`."""

FOLDER_READER = FolderReader()

READERS: tuple[SourceReader, ...] = (
    SavedDatasetReader(),
    FOLDER_READER,
    RecordingReader(),
    TextReader(),
    ManifestReader(),
    ShardReader(),
)
"""The built-in formats, in the order in which they are asked."""


@cache
def source_readers() -> tuple[SourceReader, ...]:
    """Return all source formats; built-in ones come first and cannot be replaced.

    Raises:
        SourceError: an entry point cannot be loaded, or names no subclass of `SourceReader`.
    """
    readers = list(READERS)
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        try:
            reader_type = entry.load()
        except Exception as error:  # another package's import may fail in any way
            raise SourceError(
                f"source format {entry.name!r} ({entry.value}) cannot be imported ({first_line(error)})"
            ) from error
        if not (isinstance(reader_type, type) and issubclass(reader_type, SourceReader)):
            raise SourceError(f"source format {entry.name!r} ({entry.value}) is no subclass of SourceReader")
        readers.append(reader_type())
    return tuple(readers)


def find_reader(path: str) -> SourceReader:
    """Return the format that reads `path`; a URL that no format knows by its suffix is a folder.

    Raises:
        SourceError: a local path does not exist, or no format reads it.
    """
    if not is_url(path) and not Path(path).exists():
        raise SourceError(f"{path}: no such file or folder")
    for reader in source_readers():
        if reader.accepts(path):
            return reader
    if is_url(path):
        return FOLDER_READER
    suffixes = ", ".join(sorted(set().union(*(reader.suffixes for reader in source_readers()))))
    raise SourceError(f"{path}: neither a folder, nor a recording, text file, manifest or shard ({suffixes})")


def is_folder_url(path: str) -> bool:
    """Tell whether `path` is a URL whose store is asked for a listing, unlike a file that is read."""
    return is_url(path) and find_reader(path) is FOLDER_READER

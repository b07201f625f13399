"""Folders of this machine and of stores: their recordings, and the folders that cannot be listed."""

from __future__ import annotations

import os
from collections.abc import Iterator

from clara_search.audio.decode import AUDIO_SUFFIXES, looks_like_audio
from clara_search.audio.decode.formats import SNIFF_BYTES, SNIFFED_SUFFIXES
from clara_search.errors import ClaraError, SourceError, first_line
from clara_search.files.gate import RefusedUri, admit_entry
from clara_search.files.listing import NO_SUFFIX, FolderEntry, clear_listing_cache, list_folder
from clara_search.files.paths import FileStat, is_url, join, open_binary
from clara_search.files.regular import open_regular
from indexer.sources.base import LINKS, Selection, SourceReader
from indexer.sources.item import Item, Survey

_MAX_FAILURES = 32
"""After so many failing folders in a row the store counts as away: each failure may take minutes of retries."""


class RecordingReader(SourceReader):
    """Single recordings."""

    suffixes = AUDIO_SUFFIXES | SNIFFED_SUFFIXES

    def survey(self, path: str, selection: Selection) -> Survey:
        """Count the recording, also at a URL."""
        return Survey(1, {})

    def items(self, path: str, selection: Selection) -> Iterator[Item]:
        """Yield the recording."""
        yield recording_item(path, path)


class FolderReader(SourceReader):
    """Folders, and URLs that no format knows by their suffix."""

    def accepts(self, path: str) -> bool:
        """Tell whether `path` is a folder of this machine."""
        return not is_url(path) and os.path.isdir(path)  # noqa: PTH112 - very many

    def items(self, path: str, selection: Selection) -> Iterator[Item]:
        """Yield the recordings in the folder and below."""
        yield from list_recordings(path, selection)

    def listed_files(self, path: str) -> list[str]:
        """Return no files: a recording is gone when it is missing."""
        return []


def list_recordings(folder: str, selection: Selection) -> Iterator[Item]:
    """Yield the recordings in a folder or below a URL, sorted, the files of a folder before those of its subfolders.

    Hidden files are left out, and symbolic links unless `selection` follows them. Links and files of other kinds are
    counted in `selection.left_alone`. A subfolder that cannot be listed is an item with a problem.

    Raises:
        SourceError: a URL cannot be listed, or holds no recordings.
    """
    is_remote = is_url(folder)
    if is_remote:
        refresh_listing(folder)
    waiting, entered = [""], set[tuple[int, int]]()
    is_empty, failures = True, 0
    while waiting:
        inside = waiting.pop()
        parent = join(folder, inside.rstrip("/")) if inside else folder
        try:
            if selection.follow_symlinks and not is_remote and not _enter(parent, entered):
                continue  # a link back up
            entries = list_folder(parent)
        except (OSError, ClaraError) as error:
            failures += 1
            if is_remote and (not inside or failures >= _MAX_FAILURES):
                raise listing_error(parent, error) from error
            yield unlisted_item(folder, parent, error)
            is_empty = False
            continue
        subfolders, failures = list[str](), 0
        for entry in entries:
            name = inside + entry.name
            if not entry.name:
                yield unnamed_item(folder, entry)
                is_empty = False
                continue
            if entry.name.startswith(".") or selection.is_ignored(name):
                continue
            if entry.is_link and not selection.follow_symlinks:
                selection.left_alone[LINKS] += 1
                continue
            suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 - very many
            is_recording = suffix in AUDIO_SUFFIXES
            if not (is_recording or entry.is_folder) and (selection.sniff or suffix in SNIFFED_SUFFIXES):
                is_recording = _looks_like_audio(entry.path)
            if not (entry.is_folder or is_recording):
                selection.left_alone[suffix or NO_SUFFIX] += 1
                continue
            try:
                path = admit_entry(parent, entry.name) if is_remote else entry.path
            except RefusedUri as error:
                yield Item(folder, "audio", entry.path, problem=str(error))
                is_empty = False
                continue
            if entry.is_folder:
                subfolders.append(f"{name}/")
            else:
                yield recording_item(folder, path, entry.stat)
                is_empty = False
        waiting += reversed(subfolders)
    if is_empty and is_remote:
        raise SourceError(f"{folder}: no recordings found")


def recording_item(source: str, uri: str, stat: FileStat | None = None) -> Item:
    """Return the item of the recording at `uri`; it has a problem if no table can hold the name."""
    try:
        uri.encode()
    except UnicodeEncodeError:
        readable = os.fsencode(uri).decode(errors="backslashreplace")
        return Item(readable, "audio", readable, problem="its name is not UTF-8: rename it")
    return Item(source, "audio", uri, stat=stat)


def refresh_listing(url: str) -> None:
    """Drop cached listings of a URL. Raises SourceError if nobody speaks its protocol or its store is away."""
    try:
        clear_listing_cache(url)
    except (OSError, ClaraError) as error:
        raise listing_error(url, error) from error


def listing_error(folder: str, error: Exception) -> SourceError:
    """Return the error for a folder or URL whose listing raised `error`."""
    return SourceError(f"{folder}: cannot be listed ({_reason(folder, error)})")


def unlisted_item(source: str, folder: str, error: Exception) -> Item:
    """Return the item that stands for a subfolder of `source` whose listing raised `error`."""
    problem = f"the folder cannot be listed: {_reason(folder, error)}"
    return Item(source, "audio", folder, problem=problem, hides_more=True)


def unnamed_item(source: str, entry: FolderEntry) -> Item:
    """Return the item that stands for what is below an `entry` without a name."""
    problem = "keys with an empty part ('//') cannot be listed: rename them, or name them one by one"
    return Item(source, "audio", entry.path, problem=problem, hides_more=True)


def _looks_like_audio(path: str) -> bool:
    """Tell whether the content of a file is that of a recording; not of one that cannot be read."""
    try:
        with open_binary(path) if is_url(path) else open_regular(path) as file:
            return looks_like_audio(file.read(SNIFF_BYTES))
    except (OSError, ClaraError):
        return False


def _enter(folder: str, entered: set[tuple[int, int]]) -> bool:
    """Note that a folder is listed; return False if it was before."""
    stat = os.stat(folder)  # noqa: PTH116
    identity = (stat.st_dev, stat.st_ino)
    is_new = identity not in entered
    entered.add(identity)
    return is_new


def _reason(folder: str, error: Exception) -> str:
    reason = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
    if isinstance(error, FileNotFoundError) and reason.strip("/") in folder:  # fsspec's message is the bare path
        return "no such folder"
    return reason.removeprefix(f"{folder}: ")

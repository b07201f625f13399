"""What is to be indexed: folders, recordings, text files, manifests, shards and arrays become a stream of items."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from glob import has_magic
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clara_search.audio.decode import AUDIO_SUFFIXES
from clara_search.datasets.readers import expand_pattern
from clara_search.errors import FormatError, SourceError
from clara_search.files.gate import ForeignUri, RefusedUri, admit, admit_listed
from clara_search.files.paths import is_url, normalize_path, resolve_filesystem, stat_from_info
from indexer.sources import manifest as manifests
from indexer.sources import webdataset as shards
from indexer.sources.arrow import COLUMNAR_SUFFIXES, dataset_files
from indexer.sources.item import ColumnType, InMemoryWaveform, Item, Survey, suffix_of, text_lines

TEXT_SUFFIXES = frozenset({".txt"})
MANIFEST_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson"}) | COLUMNAR_SUFFIXES
SHARD_SUFFIXES = frozenset({".tar"})


@dataclass(frozen=True)
class Recording:
    """A waveform in memory, of shape (samples,) or (samples, channels), to be indexed under the name `uri`."""

    uri: str
    waveform: npt.NDArray[np.floating[Any]]
    sample_rate: int
    text: str | None = None
    language: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)


Source = str | Path | Recording | ForeignUri
"""A `ForeignUri` is a source that was not typed but read, as from the ledger of a database."""


@dataclass(frozen=True)
class Selection:
    """What of the sources counts.

    Attributes:
        text_column: the column of manifests and shards that holds the text; None: "text".
        ignore: patterns of files and folders that are left out, matched with a name and with a path in its source.
        follow_symlinks: whether symbolic links in folders are followed.
    """

    text_column: str | None = None
    ignore: tuple[str, ...] = ()
    follow_symlinks: bool = False

    def leaves_out(self, path: str) -> bool:
        """Tell whether `path`, within its source, is to be left out."""
        name = path.rpartition("/")[2]
        return any(fnmatchcase(name, pattern) or fnmatchcase(path, pattern) for pattern in self.ignore)


ALL = Selection()


def survey(sources: Sequence[Source], selection: Selection = ALL) -> Survey:
    """Count the items of `sources` and type their columns, reading every local manifest to its end.

    Raises SourceError for a source that is missing and FormatError, with file and line, for one that is broken: before
    any work is spent on it.
    """
    count: int | None = 0
    columns = dict[str, ColumnType]()
    for source in resolve_sources(sources):
        found = _survey(source, selection)
        count = None if count is None or found.items is None else count + found.items
        for name, kind in found.columns.items():
            columns[name] = manifests.wider_type(columns.get(name), kind)
    return Survey(count, columns)


def list_items(sources: Sequence[Source], selection: Selection = ALL) -> Iterator[Item]:
    """Yield the items of `sources` in order: folders (recursively), recordings, text files, manifests, shards, arrays.

    Of a folder come the files with an audio suffix, sorted; hidden ones are left out, and symbolic links unless they
    are to be followed. A text file gives one item per line that is not blank, a manifest one per row, a shard one per
    example. Raises as `survey` does.
    """
    for source in resolve_sources(sources):
        yield from _items(source, selection)


def resolve_sources(sources: Sequence[Source]) -> Iterator[str | Recording | Item]:
    """Yield what `sources` name: recordings as they are, paths absolute, patterns as the places that match them.

    A source that was read and not typed is no pattern; where the gate refuses it, it is an item with that problem.
    """
    for source in sources:
        if isinstance(source, ForeignUri):
            try:
                yield normalize_path(admit(source))
            except RefusedUri as error:  # not called as a recording of it may be, whose rows stay
                yield Item(str(source), "text", f"{source}#L0", 0, problem=f"is no source that is tried again: {error}")
            continue
        if isinstance(source, Recording):
            yield source
        elif not Path(source).exists() and (has_magic(str(source)) or "{" in str(source)):
            for place in expand_pattern(source):
                yield from _remote_matches(place) if is_url(place) and "*" in place else [normalize_path(place)]
        else:
            yield normalize_path(source)


def _remote_matches(pattern: str) -> list[str]:
    filesystem, path = resolve_filesystem(pattern)
    found = sorted(filesystem.glob(path))
    if not found:
        raise SourceError(f"no file matches {pattern!r}")
    protocol = pattern.partition("://")[0]
    root = _with_protocol(protocol, path[: path.index("*")].rpartition("/")[0])
    return [admit_listed(root, _with_protocol(protocol, name)) for name in found]


def _with_protocol(protocol: str, path: str) -> str:
    """Return the URL of what a store lists: of http it lists URLs already."""
    return path if is_url(path) else f"{protocol}://{path}"


def _survey(source: str | Recording | Item, selection: Selection) -> Survey:
    if isinstance(source, str):
        suffix = suffix_of(source)
        if suffix in MANIFEST_SUFFIXES and (is_url(source) or Path(source).is_file()):
            return manifests.survey(source, selection.text_column)
        if suffix in SHARD_SUFFIXES:
            return shards.survey(_existing(source), selection.text_column)
        if is_url(source) and suffix not in AUDIO_SUFFIXES | TEXT_SUFFIXES:
            return Survey(None, {})
        files = _dataset(source)
        if files is not None:
            return survey(files, selection)
        return Survey(sum(1 for _ in _items(source, selection)), {})
    if isinstance(source, Item):
        return Survey(1, {})
    return Survey(1, {name: manifests.type_of(value) for name, value in source.columns.items()})


def _items(source: str | Recording | Item, selection: Selection) -> Iterator[Item]:
    if isinstance(source, Item):
        yield source
        return
    if isinstance(source, Recording):
        yield _recording(source)
        return
    suffix = suffix_of(source)
    if (files := _dataset(source)) is not None:
        yield from list_items(files, selection)
    elif not is_url(source) and Path(source).is_dir():
        yield from _folder(Path(source), selection)
    elif suffix in AUDIO_SUFFIXES:
        yield _listed(source, _existing(source))
    elif suffix in TEXT_SUFFIXES:
        yield from _text_file(_existing(source))
    elif suffix in MANIFEST_SUFFIXES:
        yield from manifests.items(_existing(source), selection.text_column)
    elif suffix in SHARD_SUFFIXES:
        yield from shards.items(_existing(source), selection.text_column)
    elif is_url(source):
        yield from _remote_folder(source, selection)
    else:
        kinds = ", ".join(sorted(MANIFEST_SUFFIXES | TEXT_SUFFIXES | SHARD_SUFFIXES))
        raise SourceError(f"{_existing(source)}: neither a folder, nor audio, nor a text file or manifest ({kinds})")


def _existing(place: str) -> str:
    if not is_url(place) and not Path(place).exists():
        raise SourceError(f"{place}: no such file or folder")
    return place


def _dataset(place: str) -> list[str] | None:
    return None if is_url(place) or not Path(place).is_dir() else dataset_files(Path(place))


def _recording(recording: Recording) -> Item:
    content = InMemoryWaveform(recording.waveform, recording.sample_rate)
    columns = {name: value for name, value in recording.columns.items() if value is not None}
    return Item("", "audio", recording.uri, None, recording.text, recording.language, columns=columns, content=content)


def _folder(folder: Path, selection: Selection) -> Iterator[Item]:
    waiting, entered = [""], set[tuple[int, int]]()
    while waiting:
        inside = waiting.pop()
        parent = f"{folder}/{inside}".rstrip("/") or "/"
        try:
            if selection.follow_symlinks and not _is_new(parent, entered):
                continue  # a link back up
            with os.scandir(parent) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            yield Item(str(folder), "audio", parent, problem=f"the folder cannot be read: {error.strerror}")
            continue
        folders = list[str]()
        for entry in entries:
            name = inside + entry.name
            if entry.name.startswith(".") or selection.leaves_out(name):
                continue
            if _is_folder(entry, selection.follow_symlinks):
                folders.append(f"{name}/")
            elif os.path.splitext(entry.name)[1].lower() in AUDIO_SUFFIXES and (  # noqa: PTH122 - very many
                selection.follow_symlinks or not entry.is_symlink()
            ):
                yield _listed(str(folder), entry.path)
        waiting += reversed(folders)


def _is_folder(entry: os.DirEntry[str], follow_symlinks: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow_symlinks)
    except OSError:  # a link in a circle
        return False


def _is_new(folder: str, entered: set[tuple[int, int]]) -> bool:
    status = os.stat(folder)  # noqa: PTH116
    identity = (status.st_dev, status.st_ino)
    is_new = identity not in entered
    entered.add(identity)
    return is_new


def _remote_folder(url: str, selection: Selection) -> Iterator[Item]:
    """Yield the recordings below a URL as its store lists them, folder by folder."""
    try:
        filesystem, root = resolve_filesystem(url)
        protocol = url.partition("://")[0]
        found = False
        for parent, _, files in filesystem.walk(root, detail=True):
            for name in sorted(files):
                path = f"{parent}/{name}"
                inside = path.removeprefix(root).lstrip("/")
                if suffix_of(name) in AUDIO_SUFFIXES and not selection.leaves_out(inside):
                    found = True
                    uri = _with_protocol(protocol, path)
                    yield _remote_recording(url, _with_protocol(protocol, root), uri, files[name])
    except (OSError, NotImplementedError) as error:
        raise SourceError(f"{url}: cannot be listed ({error})") from error
    if not found:
        raise SourceError(f"{url}: no recordings found")


def _remote_recording(url: str, root: str, uri: str, info: Mapping[str, Any]) -> Item:
    try:
        return Item(url, "audio", admit_listed(root, uri), status=stat_from_info(info))
    except RefusedUri as error:
        return Item(url, "audio", uri, problem=str(error))


def _listed(folder: str, uri: str) -> Item:
    try:
        uri.encode()
    except UnicodeEncodeError:
        readable = os.fsencode(uri).decode(errors="backslashreplace")
        return Item(readable, "audio", readable, problem="its name is not UTF-8: rename it")
    return Item(folder, "audio", uri)


def _text_file(place: str) -> Iterator[Item]:
    found = False
    for number, line in enumerate(text_lines(place), start=1):
        if text := line.strip():
            found = True
            yield Item(place, "text", f"{place}#L{number}", number, text)
    if not found:
        raise FormatError(f"{place}: holds no text")

"""What is to be indexed: folders, recordings, text files, manifests, shards and arrays become a stream of items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clara_search.audio.decode import AUDIO_SUFFIXES
from clara_search.datasets.readers import expand_ranges
from clara_search.errors import FormatError, SourceError, first_line
from clara_search.files.gate import ForeignUri, RefusedUri, admit
from clara_search.files.paths import is_url, normalize_path
from indexer.sources import manifest as manifests
from indexer.sources import webdataset as shards
from indexer.sources.arrow import COLUMNAR_SUFFIXES, dataset_files
from indexer.sources.base import Selection
from indexer.sources.folder import list_recordings, recording_item
from indexer.sources.item import ColumnType, InMemoryWaveform, Item, Survey, suffix_of, text_lines
from indexer.sources.pattern import Pattern

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

ALL = Selection()


@dataclass(frozen=True)
class ResolvedSources:
    """Sources with their patterns expanded.

    Attributes:
        members: recordings in memory, absolute paths and URLs, and items with a problem for whatever hides some.
        patterns: the patterns among the sources.
    """

    members: tuple[str | Recording | Item, ...]
    patterns: tuple[Pattern, ...] = ()


def resolve_sources(sources: Sequence[Source] | ResolvedSources) -> ResolvedSources:
    """Return the paths and URLs that `sources` name: absolute, patterns expanded.

    A source that was read and not typed is no pattern; if the gate refuses it, it is an item with that problem.

    Raises:
        SourceError: a pattern matches nothing, or cannot be listed.
    """
    if isinstance(sources, ResolvedSources):
        return sources
    members, patterns = list[str | Recording | Item](), list[Pattern]()
    for source in sources:
        if isinstance(source, ForeignUri):
            members.append(_admitted(source))
        elif isinstance(source, Recording):
            members.append(source)
        elif Path(source).exists():
            members.append(normalize_path(source))
        else:
            for name in expand_ranges(source):
                if (pattern := Pattern.parse(name)) is not None:
                    patterns.append(pattern)
                    members += pattern.expand()
                else:
                    members.append(normalize_path(name))
    return ResolvedSources(tuple(members), tuple(patterns))


def survey(sources: Sequence[Source] | ResolvedSources, selection: Selection = ALL) -> Survey:
    """Count the items of `sources` and type their columns, reading every local manifest to its end.

    Raises SourceError for a source that is missing and FormatError, with file and line, for one that is broken: before
    any work is spent on it.
    """
    count: int | None = 0
    columns = dict[str, ColumnType]()
    for source in resolve_sources(sources).members:
        found = _survey(source, selection)
        count = None if count is None or found.items is None else count + found.items
        for name, kind in found.columns.items():
            columns[name] = manifests.wider_type(columns.get(name), kind)
    return Survey(count, columns)


def list_items(sources: Sequence[Source] | ResolvedSources, selection: Selection = ALL) -> Iterator[Item]:
    """Yield the items of `sources` in order: folders (recursively), recordings, text files, manifests, shards, arrays.

    Of a folder come the files with an audio suffix, sorted; hidden ones are left out, and symbolic links unless they
    are to be followed. A text file gives one item per line that is not blank, a manifest one per row, a shard one per
    example; what cannot be listed is an item with a problem. Raises as `survey` does.
    """
    for source in resolve_sources(sources).members:
        try:
            yield from _items(source, selection)
        except OSError as error:
            raise SourceError(f"{source}: cannot be read ({error.strerror or first_line(error)})") from error


def is_folder_url(place: str) -> bool:
    """Tell whether `place` is a URL that is listed, as against a file that is read."""
    suffixes = AUDIO_SUFFIXES | TEXT_SUFFIXES | MANIFEST_SUFFIXES | SHARD_SUFFIXES
    return is_url(place) and suffix_of(place) not in suffixes


def _admitted(source: ForeignUri) -> str | Item:
    try:
        return normalize_path(admit(source))
    except RefusedUri as error:  # not called as a recording of it may be, whose rows stay
        return Item(str(source), "text", f"{source}#L0", 0, problem=f"is no source that is tried again: {error}")


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
    if not isinstance(source, str):
        yield source if isinstance(source, Item) else _in_memory(source)
        return
    suffix = suffix_of(source)
    if (files := _dataset(source)) is not None:
        yield from list_items(files, selection)
    elif is_folder_url(source) or (not is_url(source) and Path(source).is_dir()):
        yield from list_recordings(source, selection)
    elif suffix in AUDIO_SUFFIXES:
        yield recording_item(source, _existing(source))
    elif suffix in TEXT_SUFFIXES:
        yield from _text_file(_existing(source))
    elif suffix in MANIFEST_SUFFIXES:
        yield from manifests.items(_existing(source), selection.text_column)
    elif suffix in SHARD_SUFFIXES:
        yield from shards.items(_existing(source), selection.text_column)
    else:
        kinds = ", ".join(sorted(MANIFEST_SUFFIXES | TEXT_SUFFIXES | SHARD_SUFFIXES))
        raise SourceError(f"{_existing(source)}: neither a folder, nor audio, nor a text file or manifest ({kinds})")


def _existing(place: str) -> str:
    if not is_url(place) and not Path(place).exists():
        raise SourceError(f"{place}: no such file or folder")
    return place


def _dataset(place: str) -> list[str] | None:
    return None if is_url(place) or not Path(place).is_dir() else dataset_files(Path(place))


def _in_memory(source: Recording) -> Item:
    content = InMemoryWaveform(source.waveform, source.sample_rate)
    columns = {name: value for name, value in source.columns.items() if value is not None}
    return Item("", "audio", source.uri, None, source.text, source.language, columns=columns, content=content)


def _text_file(place: str) -> Iterator[Item]:
    found = False
    for number, line in enumerate(text_lines(place), start=1):
        if text := line.strip():
            found = True
            yield Item(place, "text", f"{place}#L{number}", number, text)
    if not found:
        raise FormatError(f"{place}: holds no text")

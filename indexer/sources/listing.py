"""Sources to a stream of items: paths, patterns, URLs and recordings in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clara_search.datasets.manifests import Manifest
from clara_search.errors import ClaraError, SourceError, first_line
from clara_search.files.gate import ForeignUri, admit
from clara_search.files.network.access import trust
from clara_search.files.paths import normalize_path
from clara_search.files.patterns import expand_ranges
from indexer.sources.base import Selection
from indexer.sources.columns import column_types
from indexer.sources.formats.manifest import manifest_items, survey_manifest
from indexer.sources.item import Item, Survey, merge_surveys
from indexer.sources.memory import MemoryTable, Recording, TableLike
from indexer.sources.pattern import Pattern
from indexer.sources.registry import find_reader

Source = str | Path | Recording | TableLike | ForeignUri
"""A `ForeignUri` is a source that was read from data, such as the ledger of a database."""

Member = str | Item | MemoryTable

DEFAULT_SELECTION = Selection()


@dataclass(frozen=True)
class ResolvedSources:
    """Sources with their patterns expanded.

    Attributes:
        members: absolute paths and URLs; tables in memory; items for recordings in memory, and for folders that could
            not be listed.
        patterns: the patterns among the sources.
    """

    members: tuple[Member, ...]
    patterns: tuple[Pattern, ...] = ()


def resolve_sources(
    sources: Sequence[Source] | ResolvedSources, selection: Selection = DEFAULT_SELECTION
) -> ResolvedSources:
    """Return the absolute paths and URLs that `sources` name, patterns expanded.

    A `ForeignUri` is never a pattern; if the gate refuses it, or it cannot be read, it becomes an item with that
    problem, and the others go on.

    Raises:
        SourceError: a pattern matches nothing, or cannot be listed.
    """
    if isinstance(sources, ResolvedSources):
        return sources
    members, patterns = list[Member](), list[Pattern]()
    for source in sources:
        if isinstance(source, ForeignUri):
            members.append(_admit_source(source, selection))
        elif isinstance(source, Recording):
            members.append(source.to_item())
        elif isinstance(source, TableLike):
            members.append(MemoryTable.of(source, sum(isinstance(member, MemoryTable) for member in members) + 1))
        else:
            trust(source)
            _resolve_typed(source, members, patterns)
    return ResolvedSources(tuple(members), tuple(patterns))


def _resolve_typed(source: str | Path, members: list[Member], patterns: list[Pattern]) -> None:
    """Add the paths and URLs that a user's `source` names to `members`, and its patterns to `patterns`."""
    if Path(source).exists():
        members.append(normalize_path(source))
        return
    for name in expand_ranges(source):
        if (pattern := Pattern.parse(name)) is not None:
            patterns.append(pattern)
            members += pattern.expand()
        else:
            members.append(normalize_path(name))


def survey_sources(sources: Sequence[Source] | ResolvedSources, selection: Selection = DEFAULT_SELECTION) -> Survey:
    """Count the items of `sources` and type their columns, reading every local manifest to its end.

    Raises:
        SourceError: a source is missing or cannot be read.
        FormatError: a source is broken; the message has file and line.
    """
    return merge_surveys(_survey(member, selection) for member in resolve_sources(sources, selection).members)


def _survey(member: Member, selection: Selection) -> Survey:
    if isinstance(member, Item):
        return Survey(1, column_types([member.columns]))
    if isinstance(member, MemoryTable):
        return survey_manifest(member.name, member.table, selection)
    return find_reader(member).survey(member, selection)


def list_items(sources: Sequence[Source] | ResolvedSources, selection: Selection = DEFAULT_SELECTION) -> Iterator[Item]:
    """Yield the items of `sources` in order, as the reader of each source lists them.

    Raises:
        SourceError: a source is missing or cannot be read.
        FormatError: a source is broken.
    """
    for source in resolve_sources(sources, selection).members:
        if isinstance(source, Item):
            yield source
            continue
        if isinstance(source, MemoryTable):
            manifest = selection.manifests.get(source.name) or Manifest(source.table, selection.columns, source.name)
            yield from manifest_items("", manifest, selection)
            continue
        try:
            for item in find_reader(source).items(source, selection):
                is_chosen = selection.track is not None and item.kind == "audio"
                yield replace(item, track=selection.track) if is_chosen else item
        except OSError as error:
            raise SourceError(f"{source}: cannot be read ({error.strerror or first_line(error)})") from error


def _admit_source(source: ForeignUri, selection: Selection) -> str | Item:
    try:
        name = normalize_path(admit(source))
        find_reader(name).survey(name, selection)
        return name
    except (ClaraError, OSError) as error:  # under a name of its own: a recording of that name keeps its rows
        return Item(str(source), "text", f"{source}#L0", 0, problem=f"is not tried again: {error}")

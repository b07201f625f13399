"""Sources to a stream of items: paths, patterns, URLs and recordings in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clara_search.errors import ClaraError, SourceError, first_line
from clara_search.files.gate import ForeignUri, admit
from clara_search.files.network.access import trust
from clara_search.files.paths import normalize_path
from clara_search.files.patterns import expand_ranges
from indexer.sources.base import Selection
from indexer.sources.columns import ColumnType, column_types, wider_type
from indexer.sources.item import Item, Survey
from indexer.sources.memory import Recording
from indexer.sources.pattern import Pattern
from indexer.sources.registry import find_reader

Source = str | Path | Recording | ForeignUri
"""A `ForeignUri` is a source that was read from data, such as the ledger of a database."""

DEFAULT_SELECTION = Selection()


@dataclass(frozen=True)
class ResolvedSources:
    """Sources with their patterns expanded.

    Attributes:
        members: absolute paths and URLs; items for recordings in memory, and for folders that could not be listed.
        patterns: the patterns among the sources.
    """

    members: tuple[str | Item, ...]
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
    members, patterns = list[str | Item](), list[Pattern]()
    for source in sources:
        if isinstance(source, ForeignUri):
            members.append(_admit_source(source, selection))
        elif isinstance(source, Recording):
            members.append(source.to_item())
        else:
            trust(source)
            _resolve_typed(source, members, patterns)
    return ResolvedSources(tuple(members), tuple(patterns))


def _resolve_typed(source: str | Path, members: list[str | Item], patterns: list[Pattern]) -> None:
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
    count: int | None = 0
    columns = dict[str, ColumnType]()
    for source in resolve_sources(sources, selection).members:
        if isinstance(source, Item):
            surveyed = Survey(1, column_types([source.columns]))
        else:
            surveyed = find_reader(source).survey(source, selection)
        count = None if count is None or surveyed.items is None else count + surveyed.items
        for name, kind in surveyed.columns.items():
            columns[name] = wider_type(columns.get(name), kind)
    return Survey(count, columns)


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

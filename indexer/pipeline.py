"""The indexer: items -> waveforms -> windows -> embeddings -> rows, as one stream that can be cut off anywhere."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import pyarrow as pa

from clara_search.audio.windows import DEFAULT_HOP_S, DEFAULT_WINDOW_S
from clara_search.errors import ConfigError, DatabaseError, FormatError, SourceError
from clara_search.models.base import Encoder
from clara_search.models.registry import DEFAULT_MODEL, load_encoder
from clara_search.store.database import DEFAULT_TABLE, Database
from clara_search.store.keyed_table import DEFAULT_KEEP_DAYS
from clara_search.store.table import Table, TableInfo
from indexer.decode.prefetch import DEFAULT_TIMEOUT_S, DecodeConfig, prefetch_items
from indexer.decode.processes import DecodeBackend
from indexer.decode.read import LoadedItem
from indexer.embed.batches import embed_items
from indexer.embed.reuse import reuse_vectors
from indexer.ledger.digest_map import digest
from indexer.ledger.failures import ledger_name
from indexer.ledger.reconcile import open_ledger
from indexer.ray_executor import Ray
from indexer.runtime.pools import prefetch_iter
from indexer.runtime.timers import StageTimers
from indexer.sources.base import Selection
from indexer.sources.columns import ColumnType
from indexer.sources.item import Item, Survey
from indexer.sources.listing import Source, resolve_sources, survey
from indexer.sources.listing import list_items as list_items
from indexer.write.prune import Listing, PruneResult, prune_rows
from indexer.write.scope import PruneScope, is_unreachable
from indexer.write.writer import Progress, Writer, arrow_columns

_LISTED_AHEAD = 256


@dataclass(frozen=True)
class IndexResult:
    """What a run did: items `indexed`, `unchanged` and `failed`; rows `removed`, and `rows` now in the table.

    `audio_s` is the length of the recordings that were embedded, `seconds` the wall time. Of the items indexed,
    `reused` have the vectors of a recording with the same content. `stopped` says that the run was asked to end before
    it was through. `stages` has the seconds that each stage worked and waited, over all its threads. Folders, or ends
    of shards, that are `unlisted` are among the failures, and nothing is pruned then. `unanswered` recordings are
    listed no longer, but their store did not say that they are gone: they keep their rows.
    """

    indexed: int
    unchanged: int
    failed: int
    removed: int
    rows: int
    audio_s: float
    seconds: float
    reused: int = 0
    stopped: bool = False
    stages: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    unlisted: int = 0
    unanswered: int = 0


def index(
    sources: Source | Sequence[Source],
    database: Database | str | Path,
    encoder: Encoder | str | Path = DEFAULT_MODEL,
    table: str = DEFAULT_TABLE,
    *,
    device: str | None = None,
    window_s: float | None = None,
    hop_s: float | None = None,
    prune: bool = False,
    retry_failed: bool = False,
    text_column: str | None = None,
    ignore: Sequence[str] = (),
    follow_symlinks: bool = False,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    threads: int = 0,
    decode_in: DecodeBackend = "threads",
    keep_days: float = DEFAULT_KEEP_DAYS,
    engine: Ray | None = None,
    surveyed: Survey | None = None,
    progress: Progress | None = None,
    clocks: StageTimers | None = None,
    stop: Event | None = None,
) -> IndexResult:
    """Bring `table` up to date with `sources`: embed what is new or changed, and leave the rest alone.

    Sources are paths, patterns, URLs and `Recording`s. Windows are 10 s long and 5 s apart unless said, or as the table
    has them already. With `prune`, the rows of what is no longer in the sources go: none, where any of them cannot be
    listed whole, and of files and URLs those that are gone when asked for by name. What cannot be used is stepped over
    and kept, with its reason, for `Database.failures`; it is tried again once its file is touched, or with
    `retry_failed`. A recording that was indexed under another name is not embedded again. Recordings are decoded in
    `threads` (0: as many as it takes); each has a process to do it where `decode_in` says so.
    An encoder given by name is loaded on `device`.
    `surveyed` is `survey(sources, selection)`, for whoever has it already; `clocks` can be read while it runs; `engine`
    is a Ray cluster that decodes and embeds, where this machine is not to do it alone; `stop`, once set, has it finish
    and commit what it has begun.

    An item is written with all its rows or not at all, and noted as done only then: the next run takes up one that was
    cut off. Raises SourceError for a source that is missing or broken, EncoderMismatch for another encoder's table,
    DatabaseError for other windows than the table's or where the table cannot be written.
    """
    began = time.monotonic()
    sources = [sources] if isinstance(sources, Source) else list(sources)
    selection = Selection(text_column, tuple(ignore), follow_symlinks)
    resolved = resolve_sources(sources)
    surveyed = surveyed or survey(resolved, selection)
    scope = PruneScope(resolved)
    if surveyed.items == 0 and not prune:
        raise SourceError(f"{scope}: no recordings found")
    database = database if isinstance(database, Database) else Database(database, create=True)
    encoder = encoder if isinstance(encoder, Encoder) else load_encoder(encoder, device)
    corpus = _open_or_create(database, table, encoder, window_s, hop_s, surveyed)
    ledger, orphans = open_ledger(database, corpus, retry_failed)
    clocks, stop = clocks or StageTimers(), stop or Event()
    listing = Listing()
    how = DecodeConfig(encoder.sample_rate, timeout_s, threads, decode_in)
    writer = Writer(corpus, ledger, surveyed.columns, orphans, prune, progress, keep_days, clocks.write)
    try:
        found = prefetch_iter(_once(list_items(resolved, selection), listing), _LISTED_AHEAD, clocks.list)
        if engine is None:
            begun = prefetch_items(found, ledger.known, how, clocks.decode)
        else:
            begun = engine.load(found, ledger.known, how, encoder, corpus.info)
        with closing(found), closing(_until(stop, begun)) as loaded:
            known = reuse_vectors(_checked(loaded, scope), ledger, corpus, encoder.sample_rate)
            for embedded in embed_items(known, encoder, corpus.info, clocks.encode):
                writer.add(embedded)
    finally:  # also where it was interrupted: what is embedded is kept
        writer.close()
    pruned = (
        PruneResult() if stop.is_set() else prune_rows(corpus, ledger, orphans, scope, listing, failures_only=not prune)
    )
    counts = writer.counts
    return IndexResult(
        indexed=counts["indexed"],
        unchanged=counts["unchanged"],
        failed=counts["failed"],
        removed=writer.removed + pruned.rows,
        rows=corpus.count(),
        audio_s=round(writer.audio_s, 3),
        seconds=round(time.monotonic() - began, 3),
        reused=writer.reused,
        stopped=stop.is_set(),
        stages=clocks.seconds(),
        unlisted=listing.unlisted,
        unanswered=pruned.unanswered if prune else 0,
    )


def _once(items: Iterable[Item], listing: Listing) -> Iterator[Item]:
    """Yield `items` without repetitions and note them; the same recording with other columns becomes a problem."""
    for item in items:
        listing.sources.add(item.source)
        listing.unlisted += item.hides_more
        key, content = digest(item.key), digest(f"{item.key} {item.problem} {item.details}")
        seen = listing.keys.get(key)
        if seen is None:
            listing.keys.put(key, content)
            yield item
        elif seen != (content,) and item.line is not None:
            place = f"{item.source}#L{item.line}"
            listing.keys.put(digest(place), 0)
            problem = f"{item.uri} is listed before, with other columns: the first listing counts"
            yield Item(item.source, "text", place, item.line, problem=problem)


def _until(stop: Event, loaded: Generator[LoadedItem, None, None]) -> Generator[LoadedItem, None, None]:
    with closing(loaded):
        for one in loaded:
            yield one
            if stop.is_set():
                return


def _checked(loaded: Iterable[LoadedItem], scope: PruneScope) -> Iterator[LoadedItem]:
    """Yield `loaded`; where a file could not be read, make sure first that it is not all of its folder."""
    for one in loaded:
        if one.state == "failed" and one.content_hash is None and is_unreachable(one.item):
            scope.check()
        yield one


def _open_or_create(
    database: Database, name: str, encoder: Encoder, window_s: float | None, hop_s: float | None, surveyed: Survey
) -> Table:
    with database.commit_lock(name):
        if name in database.table_names():
            return _opened(database, name, encoder, window_s, hop_s, surveyed)
        window_s = DEFAULT_WINDOW_S if window_s is None else window_s
        hop_s = min(DEFAULT_HOP_S, window_s) if hop_s is None else hop_s
        if not 0 < hop_s <= window_s:
            raise ConfigError(f"need 0 < hop <= window, got window {window_s} s and hop {hop_s} s")
        database.drop_table(ledger_name(name))  # of a table that somebody deleted
        info = TableInfo(encoder.name, encoder.fingerprint, encoder.dim, window_s, hop_s)
        columns = [pa.field(*column) for column in arrow_columns(surveyed.columns).items()]
        return database.create_table(name, info, columns)


def _opened(
    database: Database, name: str, encoder: Encoder, window_s: float | None, hop_s: float | None, surveyed: Survey
) -> Table:
    table = database.table(name)
    table.check_encoder(encoder)
    info = table.info
    asked = (info.window_s if window_s is None else window_s, info.hop_s if hop_s is None else hop_s)
    if asked != (info.window_s, info.hop_s):
        raise DatabaseError(
            f"table '{name}' has windows of {info.window_s:g} s every {info.hop_s:g} s; you asked for "
            f"{asked[0]:g} s every {asked[1]:g} s: leave that out, or index into another --table"
        )
    _check_columns(table, surveyed.columns)
    return table


def _check_columns(table: Table, columns: Mapping[str, ColumnType]) -> None:
    for name, found in arrow_columns(columns).items():
        if name not in table.schema.names:
            continue
        there = table.schema.field(name).type
        if there not in (found, pa.string()) and (found, there) != (pa.int64(), pa.float64()):
            raise FormatError(f"column '{name}' holds {found} now, but {there} in table '{table.name}'")

"""The indexer: items -> waveforms -> windows -> embeddings -> rows, one stream that may be killed at any time."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Literal

from clara_search.datasets.manifests import ManifestColumns
from clara_search.errors import ConfigError, SourceError
from clara_search.files.network import access
from clara_search.models.base import Encoder
from clara_search.store.compaction import DEFAULT_RETAIN_DAYS
from clara_search.store.database import DEFAULT_TABLE, Database
from indexer.decode.prefetch import DEFAULT_TIMEOUT_S, DecodeConfig, prefetch_items
from indexer.decode.processes import DecodeBackend
from indexer.decode.read import Loaded, LoadedItem
from indexer.embed.batches import embed_items
from indexer.embed.reuse import reuse_vectors
from indexer.ledger.digest_map import digest
from indexer.ledger.reconcile import open_ledger
from indexer.ray_executor import Ray
from indexer.runtime.pools import prefetch_iter
from indexer.runtime.timers import StageTimers
from indexer.sources.base import REPEATED, Selection
from indexer.sources.columns import parse_types
from indexer.sources.item import Item, Survey, in_memory_bytes
from indexer.sources.listing import Source, list_items, resolve_sources, survey_sources
from indexer.transcribe.model import Transcriber, load_transcriber
from indexer.transcribe.stage import TranscribeStage
from indexer.write.compaction import Upkeep
from indexer.write.prune import Listing, PruneResult, prune_rows
from indexer.write.scope import PruneScope, is_unreachable
from indexer.write.table import open_or_create_table, resolve_encoder
from indexer.write.transcripts import finish_transcripts
from indexer.write.writer import Progress, Writer

_LISTING_BUFFER = 256
_LISTING_BYTES = 64 * 2**20
"""Of recordings out of streams, which come with their bytes."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IndexResult:
    """Counts of a run.

    Attributes:
        indexed: items embedded, or with vectors reused.
        unchanged: items that were up to date.
        failed: items that could not be used.
        removed: rows removed.
        rows: rows in the table now.
        audio_s: length of the embedded recordings in seconds.
        seconds: wall time.
        reused: items among `indexed` with the vectors of a recording with the same content.
        stopped: whether the run was asked to end early.
        stages: seconds that each stage worked and waited, over all its threads.
        unlisted: folders, and ends of shards, that could not be listed; they are failures, and nothing is pruned then.
        unanswered: recordings that are no longer listed, but whose store did not say that they are gone; they stay.
        noted: indexed recordings that are out of the ordinary (`notes`), such as "2 packets damaged".
        transcribed: recordings that were transcribed now and say something.
        silent: recordings that were transcribed now and say nothing.
        untranscribed: recordings that could not be transcribed (`notes` has the reasons); the next run tries again.
        left_alone: what the sources hold beside their items, by kind: files of other kinds by suffix, symbolic links,
            items that an earlier source lists too.
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
    noted: int = 0
    transcribed: int = 0
    silent: int = 0
    untranscribed: int = 0
    left_alone: Mapping[str, int] = field(default_factory=dict)


def index(
    sources: Source | Sequence[Source],
    database: Database | str | Path,
    encoder: Encoder | str | Path | None = None,
    table: str = DEFAULT_TABLE,
    *,
    device: str | None = None,
    window_s: float | None = None,
    hop_s: float | None = None,
    prune: bool = False,
    retry_failed: bool = False,
    path_column: str | None = None,
    text_column: str | None = None,
    columns: Mapping[str, str] | None = None,
    column_types: Mapping[str, str] | None = None,
    encoding: str | None = None,
    ignore: Sequence[str] = (),
    follow_symlinks: bool = False,
    audio_member: str | None = None,
    sniff: bool = False,
    track: int | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    workers: int = 0,
    decode_backend: DecodeBackend = "threads",
    relative_to: str | Path | None = None,
    retain_days: float = DEFAULT_RETAIN_DAYS,
    optimize: Literal["auto", "never"] = "auto",
    engine: Ray | None = None,
    transcribe: Transcriber | str | Path | None = None,
    survey: Survey | None = None,
    progress: Progress | None = None,
    timers: StageTimers | None = None,
    stop: Event | None = None,
) -> IndexResult:
    """Bring a table up to date with its sources: embed new and changed items, and leave the rest alone.

    An item is written with all of its rows or not at all, and recorded as done only afterwards: a run that was killed
    is continued by the next one. A bad file is skipped and recorded with its reason (`failures`). A recording that is
    indexed under another name already takes over its vectors.

    Args:
        sources: Paths, patterns, URLs, `Recording`s, and tables in memory: pandas data frames, Arrow tables and others.
        database: The database, its folder or its URL; it is created if it is missing.
        encoder: An encoder, or the name or folder of a model; None: the table's model, or the bundled one.
        table: Name of the table.
        device: Device for an encoder that is loaded here, as in `load_encoder`.
        window_s: Length of a window in seconds; None: the table's, or 10.
        hop_s: Seconds from one window to the next; None: the table's, or 5.
        prune: Remove rows of items that are gone from the sources, unless a source could not be listed completely.
            A file in a folder or store is gone if it is missing when asked for by name.
        retry_failed: Try failed items again whose files are unchanged.
        path_column: Column of manifests that names or holds the recordings; None: recognise it; "": all rows are texts.
        text_column: Column of manifests and shards that holds the texts; None: recognise it.
        columns: New names of columns of manifests, each with the old one, such as `{"text": "phrase"}`.
        column_types: Types of further columns by name, such as "text", "int" or "date"; None: those of the values.
        encoding: Encoding of CSV, TSV and JSON manifests; None: UTF-8 or UTF-16.
        ignore: Patterns of files and folders to leave out.
        follow_symlinks: Follow symbolic links in folders.
        audio_member: What the names of recordings in shards end in, such as "mix.wav"; None: each key has one.
        sniff: Take files in folders whose suffix is not known for recordings if their content looks like one.
        track: Number of the audio track, from 1, of recordings with several; None: the one flagged as default.
        timeout_s: Longest time in seconds for decoding one file.
        workers: Number of decoding threads; 0: as many as the encoder needs.
        decode_backend: "processes" gives each thread a process, so that a crash of a decoder costs one file only.
        relative_to: Folder on this machine; names of recordings in it are stored relative to it, and it is found again
            relative to the database: both can be moved together. None: the table's, or none.
        retain_days: Age in days at which old versions of the table are deleted.
        optimize: "auto" compacts the table where its state asks for it: before, while and after it is written to;
            "never" leaves that to `clara-search db optimize`.
        engine: A Ray cluster that decodes and embeds; None: this machine.
        transcribe: Model that transcribes recordings without a text: a folder with a Whisper model in CTranslate2
            format, or a model of the hub, as in `load_transcriber`. Recordings that are transcribed already are not
            again. None: none are; texts that are there stay.
        survey: Result of `survey_sources` for these sources, if it is known.
        progress: Called with each item and its status.
        timers: Timers that can be read during the run.
        stop: Event that ends the run early, after the current batches are committed.

    Returns:
        The counts of the run.

    Raises:
        SourceError: A source is missing, empty or cannot be listed.
        FormatError: A source is broken, or a column does not fit the table's.
        EncoderMismatch: Another encoder built the table.
        DatabaseError: The table has other windows, or cannot be written.
        ConfigError: A Ray cluster is to transcribe, which it cannot.
        UnknownModel: There is no such model.
    """
    started_at, since = time.monotonic(), time.time()
    sources = [sources] if isinstance(sources, Source) else list(sources)
    manifest_columns = ManifestColumns(path_column, text_column, columns or {}, encoding)
    types = parse_types(column_types or {})
    selection = Selection(manifest_columns, types, tuple(ignore), follow_symlinks, audio_member, sniff, track)
    resolved = resolve_sources(sources, selection)
    survey = survey or survey_sources(resolved, selection)
    selection.left_alone.clear()  # of the survey
    selection = replace(selection, manifests=survey.manifests)
    scope = PruneScope(resolved)
    if survey.items == 0 and not prune:
        raise SourceError(f"{scope}: no recordings found")
    database = database if isinstance(database, Database) else Database(database, create=True)
    encoder = resolve_encoder(encoder, database, table, device)
    if transcribe is not None and engine is not None:
        raise ConfigError("a Ray cluster does not transcribe: index with it first, then once more without it")
    transcriber = load_transcriber(transcribe, device) if isinstance(transcribe, (str, Path)) else transcribe
    corpus, stored = open_or_create_table(database, table, encoder, window_s, hop_s, survey.columns, relative_to)
    ledger, orphans = open_ledger(database, corpus, retry_failed, transcriber is not None)
    # What the runs before have left: now its versions may be old enough.
    upkeep = Upkeep(corpus, ledger, since, retain_days, optimize == "auto")
    upkeep("before")
    timers, stop = timers or StageTimers(), stop or Event()
    listing = Listing()
    windows = corpus.info.window_s, corpus.info.hop_s
    config = DecodeConfig(encoder.sample_rate, timeout_s, workers, decode_backend, access.state(), *windows)
    stage = None if transcriber is None else TranscribeStage(transcriber, config.windows, timers.transcribe)
    writer = Writer(corpus, ledger, stored, orphans, prune, progress, upkeep, timers.write)
    try:
        items = prefetch_iter(
            _deduplicate(list_items(resolved, selection), listing, selection.left_alone),
            _LISTING_BUFFER,
            timers.list,
            in_memory_bytes,
            _LISTING_BYTES,
        )
        if engine is None:
            stream = prefetch_items(items, ledger.known, config, timers.decode)
        else:
            stream = engine.load_items(items, ledger.known, config, encoder)
        with closing(items), closing(_until(stop, stream)) as loaded:
            reachable = _check_reachable(loaded, scope)
            texts_known = reachable if stage is None else stage.transcribe_items(reachable)
            reused = reuse_vectors(texts_known, ledger, corpus, config.windows)
            for embedded in embed_items(reused, encoder, timers.encode):
                writer.add(embedded)
    finally:  # also after an interruption: embedded items are committed
        writer.close()
    pruned = PruneResult()
    if not stop.is_set():
        pruned = prune_rows(corpus, ledger, orphans, scope, listing, failures_only=not prune)
        upkeep("after")
    if stage is not None:
        finish_transcripts(corpus)
    counts = writer.counts
    return IndexResult(
        indexed=counts["indexed"],
        unchanged=counts["unchanged"],
        failed=counts["failed"],
        removed=writer.removed + pruned.rows,
        rows=corpus.count(),
        audio_s=round(writer.audio_s, 3),
        seconds=round(time.monotonic() - started_at, 3),
        reused=writer.reused,
        stopped=stop.is_set(),
        stages=timers.seconds(),
        unlisted=listing.unlisted,
        unanswered=pruned.unanswered if prune else 0,
        noted=writer.noted,
        transcribed=0 if stage is None else stage.transcribed,
        silent=0 if stage is None else stage.silent,
        untranscribed=0 if stage is None else stage.failed,
        left_alone=dict(selection.left_alone.most_common()),
    )


def _deduplicate(items: Iterable[Item], listing: Listing, left_alone: Counter[str]) -> Iterator[Item]:
    """Yield each item once and note it in `listing`; a repetition with other columns becomes a problem."""
    for item in items:
        listing.sources.add(item.source)
        listing.unlisted += item.hides_more
        key, details = digest(item.key), digest(f"{item.key} {item.problem} {item.details}")
        seen = listing.keys.get(key)
        if seen is None:
            listing.keys.put(key, details)
            yield item
        elif seen != (details,) and item.line is not None:
            uri = f"{item.source}#L{item.line}"
            listing.keys.put(digest(uri), 0)
            problem = f"{item.uri} is listed before, with other columns: the first listing counts"
            yield Item(item.source, "text", uri, item.line, problem=problem)
        else:
            left_alone[REPEATED] += 1


def _until(stop: Event, stream: Generator[Loaded, None, None]) -> Generator[Loaded, None, None]:
    with closing(stream):
        for item in stream:
            yield item
            if stop.is_set():
                _log.info("stopping: committing the current batches")
                return


def _check_reachable(loaded: Iterable[Loaded], scope: PruneScope) -> Iterator[Loaded]:
    """Yield `loaded`; if a file could not be read, check first that its folder is still there."""
    for item in loaded:
        is_unread = isinstance(item, LoadedItem) and item.state == "failed" and item.content_hash is None
        if is_unread and is_unreachable(item.item):
            scope.check()
        yield item

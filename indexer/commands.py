"""The command `clara-search index`."""

from __future__ import annotations

import logging
import shlex
import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from clara_search.commands.common import device_option, precision_option, print_json
from clara_search.commands.logs import log_options
from clara_search.commands.maintenance import upkeep_options
from clara_search.commands.options import network_options, parse_pairs
from clara_search.commands.output import echo_line
from indexer.summary import (
    FAILURES_SHOWN,
    left_alone_line,
    print_failures,
    summary_line,
    transcripts_line,
    unpruned_line,
)

if TYPE_CHECKING:
    from indexer.decode.processes import DecodeBackend
    from indexer.sources.item import Item
    from indexer.sources.listing import Source
    from indexer.write.writer import ItemStatus

_log = logging.getLogger(__name__)


@click.command()
@click.argument("sources", nargs=-1, metavar="SOURCE...")
@click.option("--db", required=True, metavar="DIR", help="The database, a folder or a URL; created if missing.")
@click.option("--table", default="corpus", show_default=True, help="Table within the database.")
@click.option("--model", help="Name, folder or hub id of the model.  [default: the bundled one]")
@precision_option
@device_option
@click.option("--compile", "compile_model", is_flag=True, help="Compile the model first: minutes, for large corpora.")
@click.option("--window", "window_s", type=float, metavar="SECONDS", help="Length of a window.  [default: 10]")
@click.option("--hop", "hop_s", type=float, metavar="SECONDS", help="From one window to the next.  [default: 5]")
@click.option("--path-column", metavar="NAME", help="Column of a manifest that names or holds the recordings.")
@click.option("--text-column", metavar="NAME", help="Column of a manifest that holds the texts.")
@click.option(
    "--column", "columns", multiple=True, metavar="NEW=OLD", help="Rename a column of a manifest; repeatable."
)
@click.option(
    "--column-type", "column_types", multiple=True, metavar="NAME=TYPE", help="Type of a column, such as text."
)
@click.option("--encoding", metavar="NAME", help="Encoding of a CSV, TSV or JSON manifest.  [default: UTF-8 or UTF-16]")
@click.option(
    "--audio-member", metavar="EXT", help='Recordings in shards whose keys have several, like "mix.wav" or "wav".'
)
@click.option("--ignore", multiple=True, metavar="PATTERN", help='Leave files and folders out, like "*.tmp.wav".')
@click.option("--follow-symlinks", is_flag=True, help="Follow symbolic links in folders.")
@click.option("--sniff", is_flag=True, help="Look into files of unknown suffix: some may be recordings.")
@click.option(
    "--track", type=click.IntRange(min=1), help="Audio track of recordings with several.  [default: as the file says]"
)
@click.option("--prune", is_flag=True, help="Remove rows of items that are gone from the sources.")
@click.option("--retry-failed", is_flag=True, help="Try failed items again; without a SOURCE, all of them.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Longest time for decoding one file.  [default: 600]",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Decoding threads, as many as needed by default; of --engine ray: embedding actors, one a GPU by default.",
)
@click.option(
    "--decode-backend",
    type=click.Choice(["threads", "processes"]),
    default="threads",
    show_default=True,
    help="With processes, a decoder that crashes costs its file only, and many cores decode faster.",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where decoding and embedding run.",
)
@click.option(
    "--transcribe",
    metavar="FOLDER|NAME",
    help="Write down what recordings without a text say, by a Whisper model: a CTranslate2 folder, or a hub id.",
)
@click.option("--address", metavar="HOST:PORT", help="Of --engine ray: a running cluster.  [default: start one]")
@click.option("--relative-to", metavar="DIR", help="Store names relative to DIR, which moves with the database.")
@upkeep_options
@click.option(
    "--timeline", type=click.Path(dir_okay=False, path_type=Path), help="Image of how busy each stage was over time."
)
@click.option("--strict", is_flag=True, help="Exit with 1 if any file could not be used or pruned.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one line of JSON.")
@log_options
@network_options
def index(
    sources: tuple[str, ...],
    db: str,
    table: str,
    model: str | None,
    precision: str,
    device: str | None,
    compile_model: bool,
    window_s: float | None,
    hop_s: float | None,
    path_column: str | None,
    text_column: str | None,
    columns: tuple[str, ...],
    column_types: tuple[str, ...],
    encoding: str | None,
    audio_member: str | None,
    ignore: tuple[str, ...],
    follow_symlinks: bool,
    sniff: bool,
    track: int | None,
    prune: bool,
    retry_failed: bool,
    timeout_s: float | None,
    workers: int | None,
    decode_backend: DecodeBackend,
    engine: str,
    transcribe: str | None,
    address: str | None,
    relative_to: str | None,
    retain_days: float | None,
    optimize: Literal["auto", "never"],
    timeline: Path | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Embed recordings and texts into a database, or bring it up to date.

    A SOURCE is a folder, a recording, a text file (each line a text), a WebDataset shard (.tar), a folder of Hugging
    Face's datasets, or a manifest: a CSV, TSV, JSON, Parquet or Arrow file with a column such as "path", "file_name" or
    "text", and any further columns to filter by; or a pattern or URL of these. Unchanged items are left alone. A file
    that cannot be used is skipped and listed. Ctrl-C or SIGTERM finishes the current batch, a second one stops at once;
    the same command continues, however it ended.

    \b
    clara-search index recordings/ --db DIR
    clara-search index clips.csv --db DIR --table clips --window 5 --hop 2.5
    """  # noqa: D301 - click wants the \b itself
    if any(seconds is not None and seconds <= 0 for seconds in (window_s, hop_s)):
        raise click.UsageError("--window and --hop must be above 0.")
    if window_s is not None and hop_s is not None and hop_s > window_s:
        raise click.UsageError("--hop must be no longer than --window.")
    if not sources and not retry_failed:
        raise click.UsageError("Missing argument 'SOURCE...'.")
    if engine != "ray" and address:
        raise click.UsageError("--address needs --engine ray.")
    from indexer.runtime.allocator import limit_allocator

    limit_allocator()
    from clara_search.datasets.manifests import ManifestColumns
    from clara_search.models.registry import load_encoder
    from clara_search.store.compaction import DEFAULT_RETAIN_DAYS
    from clara_search.store.database import Database
    from indexer import pipeline
    from indexer.decode.prefetch import DEFAULT_TIMEOUT_S
    from indexer.ledger.failures import failed_sources
    from indexer.ray_executor import Ray
    from indexer.runtime.progress import show_progress
    from indexer.runtime.signals import stop_on_signals
    from indexer.runtime.timeline import draw_timeline, require_matplotlib
    from indexer.runtime.timers import StageTimers
    from indexer.sources.base import Selection
    from indexer.sources.columns import parse_types
    from indexer.sources.listing import survey_sources
    from indexer.transcribe.model import load_transcriber
    from indexer.write.table import table_model

    if engine == "ray" and transcribe is not None:
        raise click.UsageError("--engine ray does not transcribe: index with it first, then once more without it.")
    if timeline is not None:
        require_matplotlib()  # fail now, not after days of work
    inputs: tuple[Source, ...] = sources or tuple(failed_sources(Database(db), table))
    if not inputs:
        click.echo("No failed items to try again.")
        return
    new_names, types = (
        parse_pairs("--column", "NEW=OLD", columns),
        parse_pairs("--column-type", "NAME=TYPE", column_types),
    )
    manifest_columns = ManifestColumns(path_column, text_column, new_names, encoding)
    selection = Selection(manifest_columns, parse_types(types), ignore, follow_symlinks, audio_member, sniff)
    survey = survey_sources(inputs, selection)
    model_to_load = model or table_model(Database(db, create=True), table)
    encoder = load_encoder(model_to_load, device, precision, compile_model)
    transcriber = None if transcribe is None else load_transcriber(transcribe, device, precision)
    database = Database(db, create=True)  # after the model: if that cannot be loaded, no folder is left
    failed: set[str] = set()
    timers = StageTimers()

    def report(item: Item, status: ItemStatus) -> None:
        update(status == "failed")
        if status == "failed" and len(failed) < FAILURES_SHOWN:
            failed.add(item.uri)

    with (
        redirect_stdout(sys.stderr),  # Ray, and other libraries, print: stdout is for the summary
        stop_on_signals() as stop,
        show_progress(survey.items, timers) as update,
    ):
        summary = pipeline.index(
            inputs,
            database,
            encoder,
            table,
            window_s=window_s,
            hop_s=hop_s,
            prune=prune,
            retry_failed=retry_failed,
            path_column=path_column,
            text_column=text_column,
            columns=new_names,
            column_types=types,
            encoding=encoding,
            ignore=ignore,
            follow_symlinks=follow_symlinks,
            audio_member=audio_member,
            sniff=sniff,
            track=track,
            timeout_s=timeout_s or DEFAULT_TIMEOUT_S,
            workers=0 if engine == "ray" else workers or 0,
            decode_backend=decode_backend,
            relative_to=relative_to,
            retain_days=DEFAULT_RETAIN_DAYS if retain_days is None else retain_days,
            optimize=optimize,
            transcribe=transcriber,
            engine=Ray(workers or 0, address) if engine == "ray" else None,
            survey=survey,
            progress=report,
            timers=timers,
            stop=stop,
        )
    if timeline is not None:
        draw_timeline(timers, summary.seconds, timeline)
    _log.info("%s", summary_line(summary, table))
    if as_json:
        print_json([asdict(summary)])
    else:
        echo_line(summary_line(summary, table))
        if transcripts := transcripts_line(summary):
            echo_line(transcripts)
        if summary.left_alone:
            echo_line(left_alone_line(summary), err=True)
        print_failures(summary, database, table, failed)
        if summary.noted:
            command = f"clara-search db info --db {shlex.quote(database.location)} --table {table} --notes"
            echo_line(f"  {summary.noted:,} recordings with notes: {command}", err=True)
    unpruned = unpruned_line(summary) if prune else None
    if unpruned:
        click.echo(unpruned, err=True)
    if summary.stopped:
        click.echo("Stopped. All finished work is committed: the same command continues here.", err=True)
        sys.exit(stop.exit_code)
    used = summary.indexed + summary.unchanged
    if summary.failed and (strict or not used):
        raise click.ClickException(f"{summary.failed} of {summary.failed + used} items could not be used")
    if unpruned and strict:
        sys.exit(1)

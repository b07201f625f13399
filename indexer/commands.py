"""The command `clara-search index`."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import click

from clara_search.commands.common import device_option, precision_option

if TYPE_CHECKING:
    from clara_search.store.database import Database
    from indexer.decode.processes import DecodeBackend
    from indexer.pipeline import IndexResult
    from indexer.sources.item import Item
    from indexer.sources.listing import Source
    from indexer.write.writer import ItemStatus

_FAILURES_SHOWN = 20
_INTERRUPTED = 130


@click.command()
@click.argument("sources", nargs=-1, metavar="SOURCE...")
@click.option("--db", required=True, metavar="DIR", help="The database, a folder or a URL; made where there is none.")
@click.option("--table", default="corpus", show_default=True, help="Table within the database.")
@click.option("--model", help="Name, folder or hub id of the model.  [default: the bundled one]")
@precision_option
@device_option
@click.option("--compile", "compile_model", is_flag=True, help="Compile the model first: minutes, for large corpora.")
@click.option("--window", "window_s", type=float, metavar="SECONDS", help="Length of a window.  [default: 10]")
@click.option("--hop", "hop_s", type=float, metavar="SECONDS", help="From one window to the next.  [default: 5]")
@click.option("--text-column", metavar="NAME", help="Column of a manifest that holds the text.  [default: text]")
@click.option("--ignore", multiple=True, metavar="PATTERN", help='Leave files and folders out, like "*.tmp.wav".')
@click.option("--follow-symlinks", is_flag=True, help="Follow symbolic links in folders.")
@click.option("--prune", is_flag=True, help="Remove the rows of what is no longer in the sources.")
@click.option("--retry-failed", is_flag=True, help="Try again what failed; without a SOURCE, all that failed.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Longest time to decode one file in.  [default: 600]",
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads that decode.  [default: as many as it takes]")
@click.option(
    "--decode-in",
    type=click.Choice(["threads", "processes"]),
    default="threads",
    show_default=True,
    help="A process each: a decoder that crashes costs its file only, and many cores do not wait for each other.",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where decoding and embedding run.",
)
@click.option(
    "--num-workers", type=click.IntRange(min=1), help="Of --engine ray: how many embed.  [default: one a GPU]"
)
@click.option("--address", metavar="HOST:PORT", help="Of --engine ray: a running cluster.  [default: one is started]")
@click.option(
    "--keep-days", type=click.FloatRange(min=0), help="How long versions of the table are kept.  [default: 7]"
)
@click.option("--profile", type=click.Path(dir_okay=False, path_type=Path), help="A picture of where the time went.")
@click.option("--strict", is_flag=True, help="Exit with 1 where any file could not be used, or not pruned.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one line of JSON.")
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
    text_column: str | None,
    ignore: tuple[str, ...],
    follow_symlinks: bool,
    prune: bool,
    retry_failed: bool,
    timeout_s: float | None,
    threads: int | None,
    decode_in: DecodeBackend,
    engine: str,
    num_workers: int | None,
    address: str | None,
    keep_days: float | None,
    profile: Path | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Embed recordings and texts into a database, or bring it up to date.

    A SOURCE is a folder, a recording, a text file (each line a text), a WebDataset shard (.tar), a folder of Hugging
    Face's datasets, or a manifest: a CSV, TSV, JSON-lines, Parquet or Arrow file with a column "path", "url" or "text",
    and any further columns to filter by; a pattern of them, or a URL. What did not change since the last time is left
    alone. A file that cannot be used is stepped over and listed. Ctrl-C finishes what was begun, a second one stops at
    once; the same command goes on where it ended, however it ended.

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
    if engine != "ray" and (num_workers or address):
        raise click.UsageError("--num-workers and --address are of --engine ray.")
    from indexer.runtime.allocator import limit_allocator

    limit_allocator()
    from tqdm import tqdm

    from clara_search.models.registry import load_encoder
    from clara_search.store.database import Database
    from clara_search.store.keyed_table import DEFAULT_KEEP_DAYS
    from indexer import pipeline
    from indexer.decode.prefetch import DEFAULT_TIMEOUT_S
    from indexer.ledger.failures import failed_sources
    from indexer.ray_executor import Ray
    from indexer.runtime.timeline import draw_timeline, require_matplotlib
    from indexer.runtime.timers import StageTimers
    from indexer.sources.base import Selection
    from indexer.sources.listing import survey

    if profile is not None:
        require_matplotlib()  # an error now, rather than after days of work
    named: tuple[Source, ...] = sources or tuple(failed_sources(Database(db), table))
    if not named:
        click.echo("Nothing failed that could be tried again.")
        return
    surveyed = survey(named, Selection(text_column, ignore, follow_symlinks))
    encoder = load_encoder(model or _default_model(db, table), device, precision, compile_model)
    database = Database(db, create=True)
    failed: set[str] = set()
    clocks = StageTimers()
    is_watched = sys.stderr is not None and sys.stderr.isatty()

    def settled(item: Item, status: ItemStatus) -> None:
        bar.set_postfix_str(clocks.shares(), refresh=False)
        bar.update()
        if status == "failed" and len(failed) < _FAILURES_SHOWN:
            failed.add(item.uri)

    with (
        _interruptible() as stop,
        tqdm(total=surveyed.items, unit="item", disable=not is_watched, file=sys.stderr) as bar,
    ):
        summary = pipeline.index(
            named,
            database,
            encoder,
            table,
            window_s=window_s,
            hop_s=hop_s,
            prune=prune,
            retry_failed=retry_failed,
            text_column=text_column,
            ignore=ignore,
            follow_symlinks=follow_symlinks,
            timeout_s=timeout_s or DEFAULT_TIMEOUT_S,
            threads=threads or 0,
            decode_in=decode_in,
            keep_days=DEFAULT_KEEP_DAYS if keep_days is None else keep_days,
            engine=Ray(num_workers or 0, address) if engine == "ray" else None,
            surveyed=surveyed,
            progress=settled,
            clocks=clocks,
            stop=stop,
        )
    if profile is not None:
        draw_timeline(clocks, summary.seconds, profile)
    if as_json:
        click.echo(json.dumps(asdict(summary)))
    else:
        _print(summary, database, table, failed)
    unpruned = _unpruned(summary) if prune else None
    if unpruned:
        click.echo(unpruned, err=True)
    if summary.stopped:
        click.echo("Stopped. What is done is kept: the same command goes on from here.", err=True)
        sys.exit(_INTERRUPTED)
    used = summary.indexed + summary.unchanged
    if summary.failed and (strict or not used):
        raise click.ClickException(f"{summary.failed} of {summary.failed + used} items could not be used")
    if unpruned and strict:
        sys.exit(1)


@contextmanager
def _interruptible() -> Iterator[Event]:
    """Yield what is set at the first Ctrl-C. The second one ends the process: a database survives that at any time."""
    stop = Event()

    def interrupt(number: int, frame: object) -> None:
        if stop.is_set():
            os.write(2, b"\nStopped at once. The same command goes on from here.\n")
            os._exit(_INTERRUPTED)
        stop.set()
        os.write(2, b"\nFinishing what was begun; Ctrl-C again stops at once.\n")

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _default_model(db: str, table: str) -> str:
    """Return the name of the model that built the table, or of the bundled one where there is no table yet."""
    from clara_search.models.registry import DEFAULT_MODEL
    from clara_search.store.database import Database

    if not Path(db).is_dir():
        return DEFAULT_MODEL
    database = Database(db)
    return database.table(table).info.encoder if table in database.table_names() else DEFAULT_MODEL


def _unpruned(summary: IndexResult) -> str | None:
    """Return what --prune left undone, and why, on one line."""
    if summary.unlisted:
        return f"Nothing was pruned: {summary.unlisted:,} folders or shards could not be listed to their end."
    if summary.unanswered:
        return f"{summary.unanswered:,} recordings were not pruned: their store does not say that they are gone."
    return None


def _print(summary: IndexResult, database: Database, table: str, failed: Collection[str]) -> None:
    """Tell people what was done, and on stderr what was not: of all failures known, those of this run."""
    from indexer.ledger.failures import failures

    minutes, seconds = divmod(round(summary.audio_s), 60)
    click.echo(
        f"{summary.indexed:,} indexed ({minutes:,} min {seconds} s of audio), {summary.unchanged:,} unchanged, "
        f"{summary.failed:,} failed, {summary.removed:,} rows removed; table '{table}' has {summary.rows:,} rows "
        f"({summary.seconds:.1f} s)"
    )
    if not summary.failed:
        return
    for failure in failures(database, table):
        if failure["uri"] in failed:
            click.echo(f"  failed: {failure['uri']}: {failure['reason']}", err=True)
    if summary.failed > len(failed):
        command = f"clara-search db info --db {shlex.quote(database.location)} --table {table} --failures"
        click.echo(f"  and {summary.failed - len(failed):,} more: {command}", err=True)

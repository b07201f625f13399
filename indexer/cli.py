"""The command `clara-search index`."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clara_search.commands.common import precision_option

if TYPE_CHECKING:
    from clara_search.store import Database
    from indexer.items import Item
    from indexer.pipeline import Summary
    from indexer.writing import Status

_FAILURES_SHOWN = 20


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--db", required=True, metavar="DIR", help="The database; made where there is none.")
@click.option("--table", default="corpus", show_default=True, help="Table within the database.")
@click.option("--model", help="Name, folder or hub id of the model.  [default: the bundled one]")
@precision_option
@click.option("--compile", "compile_model", is_flag=True, help="Compile the model first: minutes, for large corpora.")
@click.option("--window", "window_s", type=float, metavar="SECONDS", help="Length of a window.  [default: 10]")
@click.option("--hop", "hop_s", type=float, metavar="SECONDS", help="From one window to the next.  [default: 5]")
@click.option("--text-column", metavar="NAME", help="Column of a manifest that holds the text.  [default: text]")
@click.option("--prune", is_flag=True, help="Remove the rows of what is no longer in the sources.")
@click.option("--strict", is_flag=True, help="Exit with 1 where any file could not be used.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one line of JSON.")
def index(
    sources: tuple[str, ...],
    db: str,
    table: str,
    model: str | None,
    precision: str,
    compile_model: bool,
    window_s: float | None,
    hop_s: float | None,
    text_column: str | None,
    prune: bool,
    strict: bool,
    as_json: bool,
) -> None:
    """Embed recordings and texts into a database, or bring it up to date.

    A SOURCE is a folder, a recording, a text file (each line a text) or a manifest: a CSV, TSV, JSON-lines or Parquet
    file with a column "path" or "text", and any further columns to filter by. What did not change since the last time
    is left alone. A file that cannot be used is stepped over and listed.

    \b
    clara-search index recordings/ --db DIR
    clara-search index clips.csv --db DIR --table clips --window 5 --hop 2.5
    """  # noqa: D301 - click wants the \b itself
    if any(seconds is not None and seconds <= 0 for seconds in (window_s, hop_s)):
        raise click.UsageError("--window and --hop must be above 0.")
    if window_s is not None and hop_s is not None and hop_s > window_s:
        raise click.UsageError("--hop must be no longer than --window.")
    from tqdm import tqdm

    from clara_search.encoder import load_encoder
    from clara_search.store import Database
    from indexer import pipeline
    from indexer.sources import Selection, survey

    surveyed = survey(sources, Selection(text_column))
    encoder = load_encoder(model or _default_model(db, table), precision=precision, compile_model=compile_model)
    database = Database(db, create=True)
    failed: set[str] = set()

    def settled(item: Item, status: Status) -> None:
        bar.update()
        if status == "failed":
            failed.add(item.uri)

    with tqdm(total=surveyed.items, unit="item", disable=not sys.stderr.isatty(), file=sys.stderr) as bar:
        summary = pipeline.index(
            sources,
            database,
            encoder,
            table,
            window_s=window_s,
            hop_s=hop_s,
            prune=prune,
            text_column=text_column,
            surveyed=surveyed,
            progress=settled,
        )
    if as_json:
        click.echo(json.dumps(asdict(summary)))
    else:
        _print(summary, database, table, failed)
    used = summary.indexed + summary.unchanged
    if summary.failed and (strict or not used):
        raise click.ClickException(f"{summary.failed} of {summary.failed + used} items could not be used")


def _default_model(db: str, table: str) -> str:
    """Return the name of the model that built the table, or of the bundled one where there is no table yet."""
    from clara_search.encoder import DEFAULT_MODEL
    from clara_search.store import Database

    if not Path(db).is_dir():
        return DEFAULT_MODEL
    database = Database(db)
    return database.table(table).info.encoder if table in database.table_names() else DEFAULT_MODEL


def _print(summary: Summary, database: Database, table: str, failed: Collection[str]) -> None:
    """Tell people what was done, and on stderr what was not: of all failures known, those of this run."""
    minutes, seconds = divmod(round(summary.audio_s), 60)
    click.echo(
        f"{summary.indexed:,} indexed ({minutes:,} min {seconds} s of audio), {summary.unchanged:,} unchanged, "
        f"{summary.failed:,} failed, {summary.removed:,} rows removed; table '{table}' has {summary.rows:,} rows "
        f"({summary.seconds:.1f} s)"
    )
    if not summary.failed:
        return
    failures = [failure for failure in database.failures(table) if failure["uri"] in failed]
    for failure in failures[:_FAILURES_SHOWN]:
        click.echo(f"  failed: {failure['uri']}: {failure['reason']}", err=True)
    if len(failures) > _FAILURES_SHOWN:
        rest = len(failures) - _FAILURES_SHOWN
        command = f"clara-search db info --db {shlex.quote(str(database.path))} --table {table} --failures"
        click.echo(f"  and {rest:,} more: {command}", err=True)

"""The files of a database: `clara-search db optimize` and `db purge`, and the options of `index` for them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import click

from clara_search.commands.common import db_option
from clara_search.commands.output import echo_line

if TYPE_CHECKING:
    from clara_search.store.database import Database

_COMPACTION = "indexer.write.compaction"
"""Imported by name: the library does not depend on the indexer."""

_retain_option = click.option(
    "--retain-days",
    type=click.FloatRange(min=0),
    help="Age at which old versions and deleted rows leave the disk.  [default: 0.5]",
)


def _refuse_watch(context: click.Context, parameter: click.Parameter, is_given: bool) -> None:
    if is_given:
        raise click.UsageError(
            "There is no --watch: run the same command by cron or a systemd timer, as docs/operations.md shows."
        )


def upkeep_options(command: click.decorators.FC) -> click.decorators.FC:
    """Add the options of a command that writes again and again to one database."""
    optimize = click.option(
        "--optimize",
        type=click.Choice(["auto", "never"]),
        default="auto",
        show_default=True,
        help="Whether to merge small files and drop old versions where the state of the table asks for it.",
    )
    watch = click.option("--watch", is_flag=True, hidden=True, expose_value=False, callback=_refuse_watch)
    return _retain_option(optimize(watch(command)))


@click.command()
@db_option
@click.option("--table", help="Only this table.")
@_retain_option
def optimize(db: str, table: str | None, retain_days: float | None) -> None:
    """Merge small files and drop what is no longer needed; `index` does this by itself when it is worth it."""
    from clara_search.store.compaction import DEFAULT_RETAIN_DAYS

    _compact(db, table, DEFAULT_RETAIN_DAYS if retain_days is None else retain_days, purge=False)


@click.command()
@db_option
@click.option("--table", help="Only this table.")
def purge(db: str, table: str | None) -> None:
    """Remove deleted rows from the disk for good, now: their texts, names and vectors, in all files and old versions.

    An ANN index that still holds deleted rows is dropped. Backups, and copies of the file system, are not reached.
    """
    _compact(db, table, 0, purge=True)


def _compact(db: str, table: str | None, retain_days: float, purge: bool) -> None:
    from clara_search.store.database import Database

    database = Database(db)
    compact_now = import_module(_COMPACTION).compact_now
    for name in [table] if table is not None else database.table_names():
        before = _size(database, name)
        dropped = compact_now(database, name, retain_days, purge)
        echo_line(f"{name}: {before}, now {_size(database, name)}")
        if dropped:
            echo_line(f"{name}: the ANN index held deleted rows and was dropped: run `clara-search ann build`")


def _size(database: Database, name: str) -> str:
    """Return number and size of a table's files, the ledger's included; of one in a store its version."""
    folder = database.table_folder(name)
    if folder is None:
        return f"version {database.table(name).version}"
    ledger = database.table_folder(import_module("indexer.ledger.failures").ledger_name(name))
    files = [path for part in (folder, ledger) if part for path in part.rglob("*") if path.is_file()]
    return f"{len(files):,} files, {sum(path.stat().st_size for path in files) / 1e6:,.1f} MB"

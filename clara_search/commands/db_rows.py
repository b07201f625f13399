"""`clara-search db delete` and `db relocate`: rows and their ledger entries, deleted or named anew."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from importlib import import_module

import click

from clara_search.commands.common import db_option, json_option, print_json, table_option
from clara_search.commands.output import echo_line

_WRITE = "indexer.write"
"""Imported by name: the library does not depend on the indexer."""

dry_run_option = click.option("--dry-run", is_flag=True, help="Only say what would be done.")


@click.command()
@db_option
@table_option
@click.option("--where", required=True, metavar="SQL", help="The rows to delete, such as \"uri LIKE '/old/%'\".")
@dry_run_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def delete(db: str, table: str, where: str, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Delete rows by a filter.

    The next `index` of a source that still lists a deleted recording adds it again. Deleted rows leave the disk when
    old versions of the table do.
    """
    delete_rows = import_module(f"{_WRITE}.delete").delete_rows
    result = delete_rows(db, where, table, dry_run=True)
    if not dry_run and result.rows:
        rows = f"{result.rows:,} rows of {result.items:,} recordings and texts"
        if not yes:
            click.confirm(f"Delete {rows} of table '{table}'? {result.remaining:,} rows stay.", abort=True, err=True)
        result = delete_rows(db, where, table)
    if as_json:
        print_json([asdict(result)])
    else:
        done = "would be deleted" if dry_run else "deleted"
        echo_line(
            f"{result.rows:,} rows of {result.items:,} recordings and texts {done}; table '{table}' "
            f"{'would have' if dry_run else 'has'} {result.remaining:,} rows"
        )


@click.command()
@click.argument("old")
@click.argument("new")
@db_option
@table_option
@dry_run_option
@json_option
def relocate(old: str, new: str, db: str, table: str, dry_run: bool, as_json: bool) -> None:
    """Name recordings anew that were moved from OLD to NEW, paths or URLs of a folder or file.

    Vectors and further columns stay as they are. Recordings that were indexed under both names keep one set of rows.

    \b
    clara-search db relocate /old/recordings /new/recordings --db DIR
    """  # noqa: D301 - click wants the \b itself
    from clara_search.retrieval.ann import index as ann
    from clara_search.store.database import Database

    result = import_module(f"{_WRITE}.relocate").relocate_rows(db, old, new, table, dry_run=dry_run)
    if as_json:
        print_json([asdict(result)])
        return
    done = "would be relocated" if dry_run else "relocated"
    echo_line(f"{result.rows:,} rows, {result.items:,} recordings and texts {done}: {result.old} -> {result.new}")
    if result.present:
        click.echo(f"{result.present:,} rows were there already, with the same content.")
    if not dry_run and ann.version_token(Database(db).table(table)) is not None:
        command = f"clara-search ann build --db {shlex.quote(db)} --table {table}"
        echo_line(f"The ANN index covers the old names: {command}", err=True)

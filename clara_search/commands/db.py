"""`clara-search db`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from clara_search.commands.common import db_option, json_option, print_facts, print_json
from clara_search.errors import DatabaseError

if TYPE_CHECKING:
    from clara_search.models.base import Encoder
    from clara_search.store.database import Database
    from clara_search.store.table import Table
    from clara_search.store.verify import Finding

_LEDGER = "indexer.ledger.failures"
"""The ledger belongs to the indexer, which the library does not import."""


@click.group()
def db() -> None:
    """Show what a database holds, and whether it is whole."""


@db.command()
@db_option
@click.option("--table", help="Only this table.")
@click.option("--failures", is_flag=True, help="List what could not be indexed, and why.")
@json_option
def info(db: str, table: str | None, failures: bool, as_json: bool) -> None:
    """Show the tables of a database: rows, windows, and the model that built them."""
    from clara_search.store.database import Database

    database = Database(db)
    list_failures = import_module(_LEDGER).failures
    tables = [database.table(name) for name in ([table] if table is not None else database.table_names())]
    if failures:
        failed = [{"table": one.name, **failure} for one in tables for failure in list_failures(database, one.name)]
        if as_json:
            print_json(failed)
        else:
            for one in failed:
                click.echo(f"{one['uri']}: {one['reason']}")
        return
    described = [{**describe(one), "failures": len(list_failures(database, one.name))} for one in tables]
    if as_json:
        print_json(described)
        return
    for number, facts in enumerate(described):
        if number:
            click.echo()
        print_facts(facts)
    if not described:
        click.echo("The database has no tables.", err=True)


@db.command()
@db_option
@click.option("--table", help="Only this table.")
@click.option("--repair", is_flag=True, help="Mend what can be mended; the next `index` does again what that takes.")
@click.option("--sample", type=click.IntRange(min=0), default=16, show_default=True, help="Rows to embed again.")
@click.option("--fetch", is_flag=True, help="Also open the URLs that the table names, for rows to embed again.")
@json_option
def verify(db: str, table: str | None, repair: bool, sample: int, fetch: bool, as_json: bool) -> None:
    """Check that tables can be read, that every row is sound, and that some are what their sources give."""
    from clara_search.store.database import Database

    database = Database(db)
    is_whole = True
    for name in [table] if table is not None else database.table_names():
        for finding in verify_all(database, name, repair, sample, fetch=fetch):
            is_whole &= finding.ok
            if as_json:
                print_json([asdict(finding)])
            else:
                state = "repaired" if finding.repaired else "ok" if finding.ok else "BROKEN"
                click.echo(f"{finding.table}  {finding.check:<8} {state:<8} {finding.detail}")
    if not is_whole:
        raise DatabaseError(f"{database.location} is not whole" + ("" if repair else ": see --repair"))


def verify_all(
    database: Database,
    name: str,
    repair: bool = False,
    sample: int = 16,
    encoder: Encoder | None = None,
    fetch: bool = False,
) -> Iterator[Finding]:
    """Yield the findings of all checks of the table `name`: its rows, its ledger and its ANN index.

    Args:
        database: where the table lies.
        name: the corpus table.
        repair: whether to mend what can be mended.
        sample: the number of rows to embed again.
        encoder: the one that built the table, if it is loaded already.
        fetch: whether to open the URLs that the table names.
    """
    from clara_search.retrieval.ann.verify import verify_index
    from clara_search.store.verify import verify, verify_files

    is_readable = True
    for finding in verify(database, name, repair, sample, encoder, fetch):
        is_readable &= finding.check != "files" or finding.ok
        yield finding
    ledger = import_module(_LEDGER)
    if database.has(ledger.ledger_name(name)):
        files = verify_files(database, ledger.ledger_name(name), ledger.LEDGER_KEY, repair)
        yield replace(files, table=name, check="ledger")
    if is_readable:
        yield verify_index(database.table(name), repair)


def describe(table: Table) -> dict[str, Any]:
    """Return what is known of a table."""
    from clara_search.retrieval.ann import index as ann

    index = ann.version_token(table)
    return {
        "table": table.name,
        "rows": table.count(),
        "audio_rows": table.count("kind = 'audio'"),
        "text_rows": table.count("kind = 'text'"),
        "encoder": table.info.encoder,
        "fingerprint": table.info.fingerprint,
        "dim": table.info.dim,
        "window_s": table.info.window_s,
        "hop_s": table.info.hop_s,
        "format_version": table.info.format_version,
        "version": table.version,
        "columns": [name for name in table.schema.names if name != "vector"],
        "ann": index is not None,
    }

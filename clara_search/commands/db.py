"""`clara-search db`: the content and the state of a database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from clara_search.commands.common import db_option, device_option, json_option, model_option, print_facts, print_json
from clara_search.commands.db_rows import delete, relocate
from clara_search.commands.maintenance import optimize, purge
from clara_search.commands.options import name_options, network_options
from clara_search.commands.output import echo_line
from clara_search.errors import DatabaseError

if TYPE_CHECKING:
    from clara_search.models.base import Encoder
    from clara_search.store.database import Database
    from clara_search.store.table import Table
    from clara_search.store.verify import Finding

_LEDGER = "indexer.ledger.failures"
"""Imported by name: the library does not depend on the indexer."""


@click.group()
def db() -> None:
    """Show the tables of a database, verify and change them."""


for command in (delete, relocate, optimize, purge):
    db.add_command(command)


@db.command()
@db_option
@click.option("--table", help="Only this table.")
@click.option("--failures", is_flag=True, help="List the sources that could not be indexed, with the reason.")
@click.option("--notes", is_flag=True, help="List the recordings that are out of the ordinary, such as damaged ones.")
@json_option
def info(db: str, table: str | None, failures: bool, notes: bool, as_json: bool) -> None:
    """Show the tables of a database: rows, windows, and the model that built them."""
    from clara_search.store.database import Database

    database = Database(db)
    ledger = import_module(_LEDGER)
    list_failures, list_notes = ledger.failures, ledger.notes
    tables = [database.table(name) for name in table_names(database, table)]
    if failures:
        failed = [{"table": item.name, **failure} for item in tables for failure in list_failures(database, item.name)]
        if as_json:
            print_json(failed)
        else:
            for failure in failed:
                echo_line(f"{failure['uri']}: {name_options(failure['reason'])}")
        return
    if notes:
        noted = [{"table": item.name, **note} for item in tables for note in list_notes(database, item.name)]
        if as_json:
            print_json(noted)
        else:
            for note in noted:
                echo_line(f"{note['uri']}: {'; '.join(note['notes'])}")
        return
    described = [
        {
            **describe(item),
            "failures": len(list_failures(database, item.name)),
            "notes": len(list_notes(database, item.name)),
        }
        for item in tables
    ]
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
@click.option("--repair", is_flag=True, help="Repair tables; the next `index` writes deleted rows anew.")
@click.option(
    "--sample", "sample_size", type=click.IntRange(min=0), default=16, show_default=True, help="Rows to embed again."
)
@click.option("--fetch", is_flag=True, help="Also open URLs of the table, for rows to embed again.")
@model_option
@device_option
@json_option
@network_options
def verify(
    db: str,
    table: str | None,
    repair: bool,
    sample_size: int,
    fetch: bool,
    model: str | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Check that tables can be read and every row is sound, and compare a sample of rows with their sources."""
    from clara_search.store.database import Database

    database = Database(db)
    is_sound = True
    for name in table_names(database, table):
        for finding in verify_all(database, name, repair, sample_size, fetch=fetch, device=device, model=model):
            is_sound &= finding.ok
            if as_json:
                print_json([asdict(finding)])
            else:
                state = "repaired" if finding.repaired else "ok" if finding.ok else "BROKEN"
                echo_line(f"{finding.table}  {finding.check:<8} {state:<8} {name_options(finding.detail)}")
    if not is_sound:
        raise DatabaseError(f"{database.location} is damaged" + ("" if repair else ": see --repair"))


def table_names(database: Database, table: str | None) -> list[str]:
    """Return the tables that a command is for: the given one, or all."""
    return [table] if table is not None else database.table_names()


def verify_all(
    database: Database,
    name: str,
    repair: bool = False,
    sample_size: int = 16,
    encoder: Encoder | None = None,
    fetch: bool = False,
    device: str | None = None,
    model: str | None = None,
) -> Iterator[Finding]:
    """Check a table, its ledger, its ANN index and its word index.

    Args:
        database: The database.
        name: Name of the corpus table.
        repair: Whether to repair.
        sample_size: Number of rows to embed again.
        encoder: The encoder that built the table; by default it is loaded.
        fetch: Whether to open URLs of the table.
        device: Device to load the encoder on.
        model: The model to load; by default the one that the table records.

    Yields:
        The result of each check.
    """
    from clara_search.retrieval.ann.verify import verify_index
    from clara_search.retrieval.index import Index
    from clara_search.store.verify import verify, verify_files
    from clara_search.store.words.verify import verify_words

    is_readable = True
    for finding in verify(database, name, repair, sample_size, encoder, fetch, device, model):
        is_readable &= finding.check != "files" or finding.ok
        yield finding
    ledger = import_module(_LEDGER)
    if database.has(ledger.ledger_name(name)):
        files = verify_files(database, ledger.ledger_name(name), ledger.LEDGER_KEY, repair)
        yield replace(files, table=name, check="ledger")
    if is_readable:
        opened = Index(database.table(name), model, device=device)
        yield verify_index(opened.table, repair, lambda texts: (encoder or opened.encoder).encode_text(texts))
        yield verify_words(opened.table, repair)


def describe(table: Table) -> dict[str, Any]:
    """Return the facts that `db info` prints."""
    from clara_search.retrieval.ann import index as ann
    from clara_search.store.words import index as words

    return {
        "table": table.name,
        "rows": table.count(),
        "audio_rows": table.count("kind = 'audio'"),
        "text_rows": table.count("kind = 'text'"),
        "encoder": table.info.model.name,
        "fingerprint": table.info.fingerprint,
        "dim": table.info.dim,
        "window_s": table.info.window_s,
        "hop_s": table.info.hop_s,
        "format_version": table.info.format_version,
        "version": table.version,
        "columns": [name for name in table.schema.names if name != "vector"],
        "ann": ann.version_token(table) is not None,
        "words": words.exists(table),
        "transcribers": import_module(_LEDGER).transcribers(table.connection, table.name),
    }

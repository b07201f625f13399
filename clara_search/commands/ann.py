"""`clara-search ann`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from clara_search.commands.common import db_option, json_option, print_facts, print_json, table_option
from clara_search.errors import DatabaseError

if TYPE_CHECKING:
    from clara_search.retrieval.ann.index import AnnStatus


@click.group()
def ann() -> None:
    """Build, show or drop the approximate index of a table, for corpora of many thousands of rows."""


@ann.command()
@db_option
@table_option
@click.option(
    "--kind",
    type=click.Choice(["auto", "flat", "ivf"]),
    default="auto",
    show_default=True,
    help="flat compares with every row; ivf with the nearest lists of rows.",
)
@click.option(
    "--target-recall",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.95,
    show_default=True,
    help="Share of the exact ten best that must be found.",
)
@json_option
def build(db: str, table: str, kind: Literal["auto", "flat", "ivf"], target_recall: float, as_json: bool) -> None:
    """Build the index of a table and measure its recall against exact search."""
    from clara_search.retrieval.ann import index as indices
    from clara_search.store.database import Database

    built = indices.build(Database(db).table(table), kind, target_recall)
    show(built, as_json)
    if built.meta.recall < target_recall:
        click.echo(f"Warning: recall@10 is {built.meta.recall:.3f}, below the target of {target_recall}.", err=True)


@ann.command()
@db_option
@table_option
@json_option
def status(db: str, table: str, as_json: bool) -> None:
    """Show what the index of a table covers and how well it finds."""
    from clara_search.retrieval.ann import index as indices
    from clara_search.store.database import Database

    found = indices.status(Database(db).table(table))
    if found is None:
        raise DatabaseError(f"table '{table}' has no ANN index; `clara-search ann build` makes one")
    show(found, as_json)


@ann.command()
@db_option
@table_option
def drop(db: str, table: str) -> None:
    """Delete the index of a table; searches then compare with every row."""
    from clara_search.retrieval.ann import index as indices
    from clara_search.store.database import Database

    dropped = indices.drop(Database(db).table(table))
    click.echo(f"Dropped the ANN index of table '{table}'." if dropped else f"Table '{table}' has no ANN index.")


def show(status: AnnStatus, as_json: bool) -> None:
    """Print a status as a JSON line or as facts."""
    if as_json:
        print_json([status.as_dict()])
        return
    meta = status.meta
    facts = {
        "kind": meta.kind if meta.kind == "flat" else f"ivf, {meta.nprobe} of {meta.lists} lists looked into",
        "recall@10": f"{meta.recall:.3f} over {meta.measured_queries} {meta.measured_with} rows",
        "covered": f"{status.covered} rows",
        "added since": f"{status.added} rows, searched exactly",
        "gone since": f"{status.gone} rows",
    }
    print_facts(facts)

"""`clara-search ann`: the ANN index of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from clara_search.commands.common import db_option, json_option, print_facts, print_json, read_texts, table_option
from clara_search.commands.output import echo_line
from clara_search.errors import DatabaseError
from clara_search.retrieval.ann.registry import AUTO, BACKENDS, IVF_MIN_ROWS

if TYPE_CHECKING:
    from clara_search.retrieval.ann.index import AnnStatus


@click.group()
def ann() -> None:
    """Build, show or drop the approximate index of a table, for corpora of many thousands of rows."""


@ann.command()
@db_option
@table_option
@click.option(
    "--backend",
    type=click.Choice([AUTO, *BACKENDS]),
    default=AUTO,
    show_default=True,
    help="; ".join(f"{name} {summary}" for name, (_, summary) in BACKENDS.items())
    + f". {AUTO} is flat below {IVF_MIN_ROWS:,} rows, else ivf.",
)
@click.option(
    "--target-recall",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.95,
    show_default=True,
    help="Recall to reach, for texts and recordings alike, measured against exact search.",
)
@click.option(
    "-k", "--k", type=click.IntRange(1, 10_000), default=10, show_default=True, help="Hits that recall counts."
)
@click.option(
    "--queries",
    metavar="FILE",
    help="What people search for, a text a line: searches by texts are tuned with them.  [default: texts of the table]",
)
@json_option
def build(db: str, table: str, backend: str, target_recall: float, k: int, queries: str | None, as_json: bool) -> None:
    """Build the index of a table, tuned to a recall that is measured against exact search.

    Searches by texts and by recordings are tuned each by itself. The texts of the table are embedded for it, unless it
    has rows of texts.
    """
    from clara_search.retrieval.ann import index as indices
    from clara_search.retrieval.index import Index
    from clara_search.store.database import Database

    opened = Index(Database(db).table(table))
    texts = None if queries is None else read_texts(queries)
    built = indices.build(opened.table, backend, target_recall, k, lambda some: opened.encoder.encode_text(some), texts)
    show(built, as_json)
    for kind, tuning in built.meta.tuning.items():
        if tuning.recall < target_recall:
            message = (
                f"Warning: recall@{k} of {kind} queries is {tuning.recall:.3f}, below the target of {target_recall}."
            )
            click.echo(message, err=True)


@ann.command()
@db_option
@table_option
@json_option
def status(db: str, table: str, as_json: bool) -> None:
    """Show the rows that the index of a table covers, and its measured recall."""
    from clara_search.retrieval.ann import index as indices
    from clara_search.store.database import Database

    current = indices.status(Database(db).table(table))
    if current is None:
        raise DatabaseError(f"table '{table}' has no ANN index: run `clara-search ann build`")
    show(current, as_json)


@ann.command()
@db_option
@table_option
def drop(db: str, table: str) -> None:
    """Delete the index of a table; searches then compare with every row."""
    from clara_search.retrieval.ann import index as indices
    from clara_search.store.database import Database

    dropped = indices.drop(Database(db).table(table))
    echo_line(f"Dropped the ANN index of table '{table}'." if dropped else f"Table '{table}' has no ANN index.")


def show(status: AnnStatus, as_json: bool) -> None:
    """Print a status as a JSON line or as facts."""
    if as_json:
        print_json([status.as_dict()])
        return
    meta = status.meta
    params = "".join(f", {name} {value}" for name, value in meta.params.items())
    facts = {"backend": f"{meta.backend}{params}"}
    for kind, tuning in meta.tuning.items():
        facts[f"recall@{meta.k}, {kind}"] = (
            f"{tuning.recall:.3f} [{tuning.interval[0]:.3f}, {tuning.interval[1]:.3f}] at effort {tuning.effort}, "
            f"over {tuning.queries} {tuning.source}"
        )
        if tuning.curve:
            facts[f"tried, {kind}"] = "; ".join(
                f"effort {point.effort}: {point.recall:.3f} in {point.latency_ms:.2f} ms" for point in tuning.curve
            )
    facts |= {
        "indexed": f"{status.num_indexed_rows} rows",
        "added since": f"{status.num_unindexed_rows} rows, searched exactly",
        "gone since": f"{status.num_stale_rows} rows",
    }
    print_facts(facts)

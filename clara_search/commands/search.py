"""`clara-search search`."""

from __future__ import annotations

from typing import Any

import click

from clara_search.commands.common import (
    db_option,
    device_option,
    json_option,
    model_option,
    precision_option,
    print_hits,
    print_json,
    search_options,
    table_option,
)
from clara_search.commands.options import limit_option


@click.command()
@click.argument("text", required=False)
@click.option("--audio", metavar="FILE", help="A recording to search by, instead of TEXT.")
@db_option
@table_option
@model_option
@precision_option
@device_option
@click.option("-k", "--top-k", "k", type=click.IntRange(min=1), default=10, show_default=True, help="Number of hits.")
@search_options()
@click.option("--windows", is_flag=True, help="Every window is a hit of its own, as with --per-recording 0.")
@click.option("--language", help='Language of TEXT, such as "en", for models that know languages.')
@click.option("--exact", is_flag=True, help="Compare with every row, even if the table has an ANN index.")
@json_option
@limit_option
def search(
    text: str | None,
    audio: str | None,
    db: str,
    table: str,
    model: str | None,
    precision: str,
    device: str | None,
    k: int,
    language: str | None,
    exact: bool,
    as_json: bool,
    windows: bool,
    **options: Any,
) -> None:
    """Find the moments nearest to TEXT, or to the sound of a recording.

    \b
    clara-search search "a dog barks in the rain" --db DIR
    clara-search search --audio bark.wav --db DIR --where "language = 'de'"
    """  # noqa: D301 - click wants the \b itself
    if (text is None) == (audio is None):
        raise click.UsageError("Give either TEXT or --audio FILE.")
    if windows and options["per_recording"]:
        raise click.UsageError("--windows and --per-recording exclude each other.")
    from clara_search.retrieval.index import open as open_index

    if windows:
        options["per_recording"] = 0

    index = open_index(db, table=table, model=model, precision=precision, device=device)
    hits = index.search(text, audio=audio, k=k, language=language, exact=exact, **options)
    if as_json:
        print_json(hit.as_dict() for hit in hits)
    elif not hits:
        click.echo("No rows match.", err=True)
    else:
        print_hits(hits)

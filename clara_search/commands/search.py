"""`clara-search search`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clara_search.commands.common import (
    device_option,
    json_option,
    model_option,
    precision_option,
    print_hits,
    print_json,
    read_texts,
    search_options,
)
from clara_search.commands.options import network_options
from clara_search.commands.output import echo_line

if TYPE_CHECKING:
    from clara_search.retrieval.hits import Hits

EXPORT_FORMATS = ("raven", "audacity", "csv", "clips")


@click.command()
@click.argument("text", required=False)
@click.option("--audio", metavar="FILE", multiple=True, help="A recording to search by, or with TEXT; repeatable.")
@click.option("--id", "row", metavar="ID", multiple=True, help="Find what is like this row; repeatable.")
@click.option("--plus", metavar="TEXT[:WEIGHT]", multiple=True, help="A text to add; repeatable.")
@click.option("--minus", metavar="TEXT[:WEIGHT]", multiple=True, help="A text to lead away from; repeatable.")
@click.option("--db", "dbs", required=True, multiple=True, metavar="DIR", help="Folder or URL; repeatable.")
@click.option("--table", "tables", multiple=True, default=["corpus"], show_default="corpus", help="Table; repeatable.")
@model_option
@precision_option
@device_option
@click.option("-k", "--top-k", "k", type=click.IntRange(min=1), default=10, show_default=True, help="Number of hits.")
@click.option("--offset", type=click.IntRange(min=0), default=0, show_default=True, help="Best hits to leave out.")
@search_options()
@click.option("--locate", is_flag=True, help="Say where in each hit it is, by a second look at the recordings.")
@click.option("--windows", is_flag=True, help="Every window is a hit of its own, as with --per-recording 0.")
@click.option("--language", help='Language of the texts, such as "en", for models that know languages.')
@click.option("--exact", is_flag=True, help="Compare with every row, even if the table has an ANN index.")
@click.option(
    "--export",
    type=(click.Choice(EXPORT_FORMATS), click.Path(file_okay=False, path_type=Path)),
    metavar="FORMAT DIR",
    help="Write files for other programs: raven, audacity, csv or clips.",
)
@json_option
@network_options
def search(
    text: str | None,
    audio: tuple[str, ...],
    row: tuple[str, ...],
    plus: tuple[str, ...],
    minus: tuple[str, ...],
    dbs: tuple[str, ...],
    tables: tuple[str, ...],
    model: str | None,
    precision: str,
    device: str | None,
    k: int,
    offset: int,
    language: str | None,
    exact: bool,
    export: tuple[str, Path] | None,
    as_json: bool,
    windows: bool,
    locate: bool,
    **options: Any,
) -> None:
    """Find the moments nearest to TEXT, to the sound of a recording, or to a row.

    TEXT is - for one text a line from stdin, or @FILE for those of a file.

    \b
    clara-search search "a dog barks in the rain" --db DIR
    clara-search search --audio bark.wav --minus rain --db DIR --where "language = 'de'"
    """  # noqa: D301 - click wants the \b itself
    if text is None and not (audio or row or plus):
        raise click.UsageError("Give TEXT, --audio FILE, --id ID or --plus TEXT.")
    if windows and options["per_recording"]:
        raise click.UsageError("--windows and --per-recording exclude each other.")
    from clara_search.retrieval.index import open as open_index

    if windows:
        options["per_recording"] = 0
    index = open_index(dbs, table=tables, model=model, precision=precision, device=device)
    results = index.search(
        _texts(text),
        audio=_one_or_several(audio),
        id=_one_or_several(row),
        plus=list(plus),
        minus=list(minus),
        k=k,
        offset=offset,
        language=language,
        exact=exact,
        **options,
    )
    from clara_search.retrieval.hits import Hits

    answers = [results] if isinstance(results, Hits) else results
    if locate:
        answers = [index.locate(hits) for hits in answers]
    _print(answers, not isinstance(results, Hits), as_json)
    if export:
        _export(answers, *export)


def _texts(text: str | None) -> str | list[str] | None:
    """Return the text, or those of stdin (-) or of a file (@FILE)."""
    if text is None or not (text == "-" or text.startswith("@")):
        return text
    try:
        return read_texts(text.removeprefix("@"))
    except click.UsageError as error:
        raise click.UsageError(f"{error.message}; TEXT that starts with @ names a file") from None


def _one_or_several(values: tuple[str, ...]) -> Any:
    return list(values) if len(values) > 1 else values[0] if values else None


def _print(results: list[Hits], is_several: bool, as_json: bool) -> None:
    for hits in results:
        label = hits.query.label if hits.query else ""
        for note in hits.notes:
            echo_line(f"{label}: {note}" if is_several else note, err=True)
        if as_json:
            print_json({"query": label, **hit.as_dict()} if is_several else hit.as_dict() for hit in hits)
            continue
        if is_several:
            click.echo()
            echo_line(label)
        if hits:
            print_hits(hits)
        else:
            click.echo("No rows match.", err=True)


def _export(results: list[Hits], file_format: str, folder: Path) -> None:
    from clara_search.retrieval.output.export import export_hits

    exported = export_hits(results, folder, file_format)
    for line in exported.skipped:
        echo_line(f"left out: {line}", err=True)
    echo_line(f"{len(exported.files)} files in {folder}", err=True)

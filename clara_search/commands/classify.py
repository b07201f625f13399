"""`clara-search classify`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clara_search.commands.common import (
    json_option,
    precision_option,
    print_json,
    print_table,
    short_name,
    stretch,
    where_option,
)
from clara_search.errors import AudioError, FormatError

if TYPE_CHECKING:
    from clara_search.classify import Classification


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option("--db", metavar="DIR", help="Classify the recordings of a database, instead of files.")
@click.option("--table", default="corpus", show_default=True, help="Table within the database.")
@click.option("--labels", required=True, metavar="A,B,...|FILE", help="The labels, or a file with one a line.")
@click.option(
    "--template", "templates", multiple=True, default=("{}",), help="Sentence with {} for the label; can be repeated."
)
@click.option("--language", help='Language of the labels, such as "en", where the model knows languages.')
@click.option("--model", help="Name, folder or hub id of the model.")
@precision_option
@where_option
@click.option("--window", "window_s", type=float, help="Seconds a window, for files.  [default: 10]")
@click.option("--hop", "hop_s", type=float, help="Seconds between windows, for files.  [default: 5]")
@json_option
def classify(
    files: tuple[str, ...],
    db: str | None,
    table: str,
    labels: str,
    templates: tuple[str, ...],
    language: str | None,
    model: str | None,
    precision: str,
    where: str | None,
    window_s: float | None,
    hop_s: float | None,
    as_json: bool,
) -> None:
    """Name each stretch of recordings by the nearest of some labels.

    \b
    clara-search classify *.wav --labels dog,rain,engine --template "the sound of a {}"
    clara-search classify --db DIR --labels happy,sad --template "a person talking in a {} voice"
    """  # noqa: D301 - click wants the \b itself
    if bool(files) == (db is not None):
        raise click.UsageError("Give either FILE... or --db DIR.")
    if where is not None and db is None:
        raise click.UsageError("--where needs --db.")
    from clara_search.audio import DEFAULT_HOP_S, DEFAULT_WINDOW_S
    from clara_search.classify import classify_file
    from clara_search.encoder import DEFAULT_MODEL, load_encoder
    from clara_search.prompts import class_embeddings
    from clara_search.search import open as open_index

    window_s = DEFAULT_WINDOW_S if window_s is None else window_s
    hop_s = min(DEFAULT_HOP_S, window_s) if hop_s is None else hop_s
    if not 0 < hop_s <= window_s:
        raise click.UsageError("--hop must be above 0 and no longer than --window.")
    names = read_labels(labels)
    if db is not None:
        index = open_index(db, table=table, model=model, precision=precision)
        print_classifications(index.classify(names, templates, where=where, language=language), as_json)
        return
    encoder = load_encoder(model or DEFAULT_MODEL, precision=precision)
    classes = class_embeddings(encoder, names, templates, language)
    failed = []

    def usable() -> Iterator[Classification]:
        for file in files:
            try:
                yield from classify_file(file, encoder, names, classes, window_s, hop_s)
            except AudioError as error:
                failed.append(file)
                click.echo(f"Error: {error}", err=True)

    print_classifications(usable(), as_json)
    if failed:
        raise click.exceptions.Exit(1)


def read_labels(labels: str) -> list[str]:
    """Return the labels of a comma-separated list, or the lines of the file that `labels` names."""
    path = Path(labels)
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else None
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not UTF-8 ({error.reason})") from error
    except OSError:  # too long for a name, or not ours to read
        text = None
    if text is not None:
        return [line.strip() for line in text.splitlines() if line.strip()]
    if path.suffix == ".txt":
        raise FormatError(f"{path}: no such file that can be read")
    return [label.strip() for label in labels.split(",")]


def print_classifications(classifications: Iterator[Classification], as_json: bool) -> None:
    """Print JSON lines or a table."""
    if as_json:
        print_json(one.as_dict() for one in classifications)
        return
    print_table(
        {"file": "left", "time": "left", "label": "fill", "score": "right"},
        (
            (short_name(one.uri), stretch(one.start_s, one.end_s), one.label, f"{one.score:.3f}")
            for one in classifications
        ),
    )

"""Options that commands share, and their output: JSON lines for programs, tables for people."""

from __future__ import annotations

import base64
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from textwrap import indent
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

import click

from clara_search.commands.output import echo_line, json_line
from clara_search.retrieval.options.registry import option_class, option_types
from clara_search.retrieval.output.text import format_found_by, format_probability, format_span, one_line, short_name
from clara_search.text.printable import printable, printable_lines

if TYPE_CHECKING:
    from clara_search.retrieval.hits import Hit

Align = Literal["left", "right", "fill"]

_GAP = 2
_MIN_WIDTH = 8

db_option = click.option("--db", "db", required=True, metavar="DIR", help="Folder or URL of the database.")
table_option = click.option("--table", default="corpus", show_default=True, help="Table within the database.")
model_option = click.option(
    "--model", help="Name, folder or hub id of the model; by default the one that built the table."
)
precision_option = click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "int8"]),
    default="auto",
    show_default=True,
    help="Precision of the model; auto is bf16 on a GPU, else fp32.",
)
device_option = click.option(
    "--device", help='Device of the model, such as "cpu" or "cuda:1".  [default: the first GPU, or else the CPU]'
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")


Command = TypeVar("Command", bound=Callable[..., Any])


def search_options(*names: str) -> Callable[[Command], Command]:
    """Return a decorator that adds search options to a command.

    Args:
        *names: Names of options; none for all.

    Returns:
        A decorator. The command takes the options as keyword arguments, None where they are not given.
    """

    def add(command: Command) -> Command:
        for name in reversed(names or tuple(option_types())):
            value_type, _ = option_types()[name]
            option = option_class(name)
            flag = "--" + name.replace("_", "-")
            kind = _click_type(value_type)
            decorator = (
                click.option(flag, name, is_flag=True, default=None, help=option.help)
                if kind is bool
                else click.option(flag, name, type=kind, metavar=option.metavar, default=None, help=option.help)
            )
            command = decorator(command)
        return command

    return add


def _click_type(value_type: Any) -> Any:
    """Return the click type of a search option's values: `Literal[...] | None`, `str | None`, `float | None` ..."""
    (inner,) = (argument for argument in get_args(value_type) if argument is not NoneType)
    return click.Choice(get_args(inner)) if get_origin(inner) is Literal else inner


def print_json(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print one JSON object a line; numbers that JSON does not have are null, bytes are base64."""
    for row in rows:
        click.echo(json_line(_as_json(row)))


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _as_json(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    return value if value is None or isinstance(value, (bool, int)) else str(value)


def print_table(columns: Mapping[str, Align], rows: Iterable[tuple[str, ...]]) -> None:
    """Print a table, one line a row, no wider than the terminal.

    Args:
        columns: The alignment of each column, by heading; the column "fill" is truncated to fit.
        rows: A text for each column.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    lines = [[Text(printable(cell)) for cell in row] for row in rows]
    for number, (heading, align) in enumerate(columns.items()):
        table.add_column(printable(heading), justify="right" if align == "right" else "left", no_wrap=True)
        if align == "fill":
            others = (
                max(len(name), *(line[other].cell_len for line in lines), 0)
                for other, name in enumerate(columns)
                if other != number
            )
            width = console.width - sum(others) - _GAP * len(columns)
            for line in lines:
                line[number].truncate(max(width, _MIN_WIDTH), overflow="ellipsis")
    for line in lines:
        table.add_row(*line)
    console.print(table)


def print_hits(hits: Iterable[Hit]) -> None:
    """Print hits as a table, best first; with their probabilities and ranks, where these are known."""
    shown = list(hits)
    columns: dict[str, Align] = {"": "right", "score": "right", "match": "right"}
    rows = [[str(hit.rank), f"{hit.score:.3f}", format_probability(hit.probability)] for hit in shown]
    if all(hit.probability is None for hit in shown):
        del columns["match"]
        rows = [row[:2] for row in rows]
    if any(hit.relevance is not None for hit in shown):
        columns["found by"] = "left"
        for row, hit in zip(rows, shown, strict=True):
            row.append(format_found_by(hit.vector_rank, hit.text_rank))
    columns |= {"file": "left", "time": "left", "text": "fill"}
    for row, hit in zip(rows, shown, strict=True):
        best_s = hit.best_s if hit.said_s is None else hit.said_s
        row += [short_name(hit.uri), format_span(hit.start_s, hit.end_s, best_s), one_line(hit.text or "")]
    print_table(columns, map(tuple, rows))


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print names and values, one pair a line, aligned; the lines of a "card" stand below it, indented."""
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        if isinstance(value, Mapping):
            value = [f"{key}: {count}" for key, count in value.items()]
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        if name == "card" and "\n" in text:
            click.echo(f"{name}:\n{indent(printable_lines(text), '  ')}")
        else:
            echo_line(f"{name:<{width}}  {text}")


def read_texts(name: str) -> list[str]:
    """Return the texts of a file, or of stdin (-), one a line without empty ones. Raises click.UsageError."""
    from clara_search.errors import SourceError
    from clara_search.files.tables import read_lines

    try:
        lines = sys.stdin.buffer.read().decode("utf-8-sig").splitlines() if name == "-" else read_lines(name)
        return [line.strip() for line in lines if line.strip()]
    except SourceError as error:
        raise click.UsageError(str(error)) from error
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{name}: is not UTF-8 ({error.reason})") from error

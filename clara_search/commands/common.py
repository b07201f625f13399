"""Options that several commands share, and how they print: JSON lines for machines, tables for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

F = TypeVar("F", bound=Callable[..., Any])

db_option = click.option("--db", "db", required=True, metavar="DIR", help="Folder of the database.")
table_option = click.option("--table", default="corpus", show_default=True, help="Table within the database.")
model_option = click.option("--model", help="Name or folder of the model; by default the one that built the table.")
where_option = click.option("--where", metavar="SQL", help="Only rows that match, such as \"language = 'de'\".")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")


def print_json(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print one JSON object a line."""
    for row in rows:
        click.echo(json.dumps(row, ensure_ascii=False, default=str))


def print_table(columns: Mapping[str, str], rows: Iterable[tuple[str, ...]]) -> None:
    """Print `rows` under the headings `columns`, whose values say "left", "right", or "fill": cut where too wide."""
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    cells = list(rows)
    for number, (heading, style) in enumerate(columns.items()):
        table.add_column(
            heading,
            justify="right" if style == "right" else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if style == "fill" else None,
            min_width=None if style == "fill" else max((cell_len(row[number]) for row in cells), default=None),
        )
    for row in cells:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print a name and its value a line, aligned; a value of several lines starts below its name."""
    width = max(len(name) for name in facts)
    for name, value in facts.items():
        text = str(value)
        click.echo(f"{name}:\n{text}" if "\n" in text else f"{name:<{width}}  {text}")


def short_name(uri: str | None, limit: int = 28) -> str:
    """Return the last part of a path or URL, its middle left out where it is longer than `limit`."""
    uri = uri or ""
    name = PurePosixPath(urlsplit(uri).path if "://" in uri else uri).name or uri
    if len(name) <= limit:
        return name
    tail = limit // 2
    return f"{name[: limit - tail - 1]}…{name[-tail:]}"


def clock(seconds: float) -> str:
    """Return `seconds` as minutes, seconds and tenths: 75.25 is "1:15.2"."""
    tenths = int(seconds * 10 + 0.5)
    return f"{tenths // 600}:{tenths % 600 // 10:02d}.{tenths % 10}"


def stretch(start_s: float | None, end_s: float | None) -> str:
    """Return a stretch of a recording as "0:05.0-0:15.0", or nothing for a row that has no time."""
    return "" if start_s is None or end_s is None else f"{clock(start_s)}-{clock(end_s)}"

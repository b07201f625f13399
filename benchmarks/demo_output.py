"""How the demo prints: headings, tables that fit the terminal, hits and intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from clara_search.search import Hit

FILL_AT_LEAST = 16


def heading(text: str) -> None:
    """Print the title of a step."""
    click.secho(f"\n{text}", bold=True)


def interval(bounds: tuple[float, float]) -> str:
    """Return a confidence interval as "0.41-0.58"."""
    return f"{bounds[0]:.2f}-{bounds[1]:.2f}"


def print_hits(hits: Iterable[Hit]) -> None:
    """Print hits as a table, texts cut to the width of the terminal."""
    from clara_search.commands.common import short_name, stretch

    print_rows(
        {"": "right", "score": "right", "file": "left", "time": "left", "text": "fill"},
        [
            (str(hit.rank), f"{hit.score:.3f}", short_name(hit.uri), stretch(hit.start_s, hit.end_s), hit.text or "")
            for hit in hits
        ],
    )


def print_rows(columns: Mapping[str, str], rows: Sequence[Sequence[str]]) -> None:
    """Print `rows` under the headings `columns`, whose values say "left", "right" or "fill".

    A column is as wide as its widest cell; one that fills takes what is left of the terminal, and is cut there.
    """
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    widths = [max(cell_len(cell) for cell in column) for column in zip(columns, *rows, strict=True)]
    taken = sum(width for width, style in zip(widths, columns.values(), strict=True) if style != "fill")
    room = max(console.width - taken - 2 * (len(columns) - 1), FILL_AT_LEAST)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for (name, style), width in zip(columns.items(), widths, strict=True):
        table.add_column(
            name,
            justify="right" if style == "right" else "left",
            width=min(width, room) if style == "fill" else width,
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in rows:
        table.add_row(*(Text(" ".join(cell.split())) for cell in row))
    console.print(table)

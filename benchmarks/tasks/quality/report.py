"""Recorded runs, joined into Markdown and one HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.report.page import as_html, as_markdown
from benchmarks.report.runs import read_runs
from clara_search.files.atomic import atomic_write_text


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for report.md and report.html.",
)
def report(runs: tuple[Path, ...], out: Path) -> None:
    """Join RUNS, JSON files of retrieval and zero-shot, into a report.

    A run is compared with the first one before it over the same data, query by query, with a test. The page has recall
    curves, ranks, cosines, confusion, and the worst queries with their recordings to play.
    """
    stored = read_runs(runs)
    out.mkdir(parents=True, exist_ok=True)
    text, page = as_markdown(stored), as_html(stored)
    atomic_write_text(out / "report.md", text)
    atomic_write_text(out / "report.html", page)
    click.echo(text)
    click.echo(f"Written to {out / 'report.html'}, {len(page) / 1e6:.1f} MB, and report.md.")

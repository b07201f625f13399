"""`python -m trainer interpolate`."""

from __future__ import annotations

from pathlib import Path

import click

from trainer.pretraining.interpolate import interpolate


@click.command("average")
@click.argument("first")
@click.argument("second")
@click.option("--share", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Of the second model.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="The folder to write.")
def average_command(first: str, second: str, share: float, out: Path) -> None:
    """Write the mean of two models of one kind, such as one that was trained further and what it began with."""
    interpolate(first, second, share, out)
    click.echo(out)

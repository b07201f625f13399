"""`python -m trainer interpolate`."""

from __future__ import annotations

from pathlib import Path

import click

from trainer.pretraining.interpolate import interpolate


@click.command("interpolate")
@click.argument("first")
@click.argument("second")
@click.option("--weight", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Of the second model.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write to.")
def interpolate_command(first: str, second: str, weight: float, out: Path) -> None:
    """Write the weighted mean of two models, such as a fine-tuned one and the one that it started from."""
    interpolate(first, second, weight, out)
    click.echo(out)

"""`python -m trainer prepare`."""

from __future__ import annotations

from pathlib import Path

import click

from clara_search.datasets.declarations.catalogue import DATASETS, find_dataset
from trainer.data.prepare import SKIPPED_FILE, prepare


@click.command("prepare", epilog=f"Datasets: {', '.join(DATASETS)}.")
@click.argument("dataset")
@click.option("--source", type=click.Path(path_type=Path), required=True, help="Folder of the dataset, as published.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write to.")
@click.option("--rate", type=click.IntRange(min=8000, max=192_000), default=16000, show_default=True, help="Hz, mono.")
@click.option("--workers", type=click.IntRange(min=1), help="Recordings decoded at a time.  [default: two a core]")
def prepare_command(dataset: str, source: Path, out: Path, rate: int, workers: int | None) -> None:
    """Write OUT/manifest.csv and OUT/audio/*.flac of DATASET.

    A second run converts only new and changed recordings. Missing and unreadable ones are listed with the reason in
    OUT/left-out.txt.
    """
    summary = prepare(find_dataset(dataset), source, out, rate, workers)
    click.echo(f"{summary.listed} recordings in {summary.manifest} ({summary.converted} converted now)")
    if summary.skipped:
        click.echo(f"{summary.skipped} left out, see {out / SKIPPED_FILE}")

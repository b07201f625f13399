"""`python -m trainer prepare`."""

from __future__ import annotations

from pathlib import Path

import click

from clara_search.datasets.declarations.catalogue import DATASETS, find_dataset
from trainer.data.prepare import LEFT_OUT, prepare


@click.command("prepare", epilog=f"Datasets: {', '.join(DATASETS)}.")
@click.argument("dataset")
@click.option("--src", "source", type=click.Path(path_type=Path), required=True, help="Folder of it, as published.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write to.")
@click.option("--rate", type=click.IntRange(min=8000, max=192_000), default=16000, show_default=True, help="Hz, mono.")
@click.option("--workers", type=click.IntRange(min=1), help="Recordings decoded at once.  [default: two a core]")
def prepare_command(dataset: str, source: Path, out: Path, rate: int, workers: int | None) -> None:
    """Write OUT/manifest.csv and OUT/audio/*.flac of DATASET.

    Run again, it does what is new or changed. What cannot be decoded, or is not there, is left out and listed with its
    reason in OUT/left-out.txt.
    """
    done = prepare(find_dataset(dataset), source, out, rate, workers)
    click.echo(f"{done.listed} recordings in {done.manifest} ({done.made} made now)")
    if done.left_out:
        click.echo(f"{done.left_out} left out, see {out / LEFT_OUT}")

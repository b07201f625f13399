"""`python -m trainer make-shards`."""

from __future__ import annotations

from pathlib import Path

import click

from trainer.data.shards import FORMATS, SKIPPED_FILE, write_shards


@click.command("make-shards")
@click.argument("source")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write to.")
@click.option("--per-shard", type=click.IntRange(min=1), default=2000, show_default=True, help="Clips in a shard.")
@click.option("--rate", type=click.IntRange(8000, 192_000), default=16000, show_default=True, help="Hz, mono.")
@click.option("--format", "suffix", type=click.Choice(list(FORMATS)), default="flac", show_default=True)
def make_shards_command(source: str, out: Path, per_shard: int, rate: int, suffix: str) -> None:
    """Write the recordings and texts of SOURCE (as of `pretrain --data`) to WebDataset shards in OUT.

    A second run writes only shards that are missing or have changed. Unreadable recordings are listed in
    OUT/left-out.txt.
    """
    shards, skipped = write_shards(source, out, per_shard, rate, suffix)
    click.echo(f"{shards} shards in {out}" + (f"; {skipped} left out, see {out / SKIPPED_FILE}" if skipped else ""))

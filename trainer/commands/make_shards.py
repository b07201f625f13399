"""`python -m trainer make-shards`."""

from __future__ import annotations

from pathlib import Path

import click

from trainer.data.shards import FORMATS, write_shards


@click.command("shards")
@click.argument("manifest")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the shards.")
@click.option("--per-shard", type=click.IntRange(min=1), default=2000, show_default=True, help="Clips in a shard.")
@click.option("--rate", type=click.IntRange(8000, 192_000), default=16000, show_default=True, help="Hz, mono.")
@click.option("--format", "suffix", type=click.Choice(list(FORMATS)), default="flac", show_default=True)
def shards_command(manifest: str, out: Path, per_shard: int, rate: int, suffix: str) -> None:
    """Write the recordings and texts that MANIFEST names (as `pretrain --data` does) to shards in OUT.

    Run again, it writes what is missing or has changed. What cannot be read is listed in OUT/left-out.txt.
    """
    written, left_out = write_shards(manifest, out, per_shard, rate, suffix)
    click.echo(
        f"{written} shards in {out}" + (f"; {left_out} left out, see {out / 'left-out.txt'}" if left_out else "")
    )

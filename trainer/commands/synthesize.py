"""`python -m trainer synthesize`."""

from __future__ import annotations

from pathlib import Path

import click

from trainer.config.evaluation import bundled_digits
from trainer.config.recipe import bundled_file
from trainer.data.synthesis import read_lines, spoken_digits, spoken_texts, write_shard


@click.command("synthesize")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Tar file to write.")
@click.option("--texts", type=click.Path(path_type=Path), help="Speak the lines of this file, or of one in recipes/.")
@click.option("--language", default="en", show_default=True, help="Language code of --texts.")
@click.option("--per-word", type=click.IntRange(min=1), default=24, show_default=True, help="Renditions of each text.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of voices, speeds and pitches.")
def synthesize_command(out: Path, texts: Path | None, language: str, per_word: int, seed: int) -> None:
    """Write a shard of the digits zero to nine, or of other texts, spoken by espeak-ng in many voices."""
    if texts is None:
        count = write_shard(spoken_digits(per_word, bundled_digits().words, seed), out)
    else:
        lines = read_lines(bundled_file(texts))
        count = write_shard(spoken_texts(lines, language, per_word, seed), out, "espeak_texts")
    click.echo(f"{count} clips in {out}")

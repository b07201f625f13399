"""`python -m trainer make-pronunciations`."""

from __future__ import annotations

import json
from pathlib import Path

import click
from tqdm import tqdm

from clara_search.files.atomic import atomic_path
from trainer.phones.pronunciations import SHARES, sample_pronunciations


@click.command("readings")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The JSON lines to write.")
@click.option("--count", type=click.IntRange(min=1), default=300_000, show_default=True, help="Texts.")
@click.option("--language", "languages", multiple=True, help="Only this one; repeatable. Default: 21, English most.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Draws words and spelling.")
def readings_command(out: Path, count: int, languages: tuple[str, ...], seed: int) -> None:
    """Write texts with their phones, for a text tower to learn how they sound."""
    shares = dict.fromkeys(languages, 1.0) or SHARES
    with atomic_path(out) as partial, partial.open("w", encoding="utf-8") as file:
        for reading in tqdm(sample_pronunciations(count, seed, shares), total=count, disable=None):
            file.write(json.dumps(vars(reading), ensure_ascii=False) + "\n")
    click.echo(f"{count} texts in {out}")

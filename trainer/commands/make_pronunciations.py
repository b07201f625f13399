"""`python -m trainer make-pronunciations`."""

from __future__ import annotations

import json
from pathlib import Path

import click
from tqdm import tqdm

from clara_search.files.atomic import atomic_path
from trainer.phones.pronunciations import LANGUAGE_WEIGHTS, sample_pronunciations


@click.command("make-pronunciations")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="JSON lines to write.")
@click.option("--count", type=click.IntRange(min=1), default=300_000, show_default=True, help="Texts.")
@click.option(
    "--language", "languages", multiple=True, help="Language code; repeatable.  [default: 21 languages, mostly English]"
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of words and spelling.")
def make_pronunciations_command(out: Path, count: int, languages: tuple[str, ...], seed: int) -> None:
    """Write random texts with their phones, the training data of `pretrain-text`."""
    weights = dict.fromkeys(languages, 1.0) or LANGUAGE_WEIGHTS
    with atomic_path(out) as partial, partial.open("w", encoding="utf-8") as file:
        for pronunciation in tqdm(sample_pronunciations(count, seed, weights), total=count, disable=None):
            file.write(json.dumps(vars(pronunciation), ensure_ascii=False) + "\n")
    click.echo(f"{count} texts in {out}")

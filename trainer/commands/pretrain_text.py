"""`python -m trainer pretrain-text`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch

from clara_search.errors import FormatError
from clara_search.models.clara.checkpoint import save_model
from clara_search.models.clara.towers import Clara
from trainer.commands.common import load, recipe_options
from trainer.data.captions import Captions
from trainer.data.corpus import load_corpus
from trainer.data.dataset import translations_of
from trainer.data.splits import split
from trainer.phones.g2p import indices
from trainer.phones.pronunciations import Reading, load_readings
from trainer.pretraining.init import begin, configured, first_tokenizer, load_towers
from trainer.pretraining.text_pretraining import (
    _BATCH,
    _NAMES,
    _RATE,
    _kept,
    learn_to_read,
    mixed,
    names_of,
    transcripts_of,
)
from trainer.runtime.lightning import choose_attention


@click.command("read")
@recipe_options
@click.option("--readings", type=click.Path(path_type=Path), required=True, help="What `trainer readings` wrote.")
@click.option("--steps", type=click.IntRange(min=1), default=1000, show_default=True, help=f"Of {_BATCH} texts each.")
@click.option("--keep", is_flag=True, help="Names of sounds in --data keep the vectors that towers.begin gives them.")
def read_command(
    recipe: Path,
    sources: tuple[str, ...],
    overrides: tuple[str, ...],
    run: Path | None,
    readings: Path,
    steps: int,
    keep: bool,
) -> None:
    """Teach the text tower of RECIPE how texts sound; it begins with the weights of towers.begin.

    With --data, transcripts of the recordings that are trained on are read too. Writes a model folder, which a recipe
    names as its towers.begin.
    """
    settings, folder = load(recipe, sources, overrides, run)
    torch.manual_seed(settings.seed)
    towers = load_towers(settings.towers)
    tokenizer = first_tokenizer(settings, towers)
    if tokenizer is None:
        raise FormatError("reading needs a tokenizer: name one as tokenizer.path, or a model as towers.begin")
    settings = replace(settings, model=configured(settings, towers))
    if keep and not (settings.data.sources and settings.towers.begin):
        raise click.UsageError("--keep needs --data, and a model as towers.begin")
    texts, transcripts, kept = load_readings(readings), list[Reading](), None
    np.random.default_rng(settings.seed).shuffle(texts)
    if settings.data.sources:
        rate, cache = settings.model.mel.sample_rate, folder.parent / "cache"
        corpus = load_corpus(settings.data.sources, rate, cache, settings.data.decode)
        sides = split(corpus, settings.data)
        transcripts = transcripts_of(corpus, sides)
        if keep:
            captions = Captions(settings.captions, translations_of(settings.captions))
            kept = _kept(settings, names_of(corpus, sides, captions, _NAMES))
    model = Clara(settings.model).eval()
    inventory = settings.model.spoken.phones if settings.model.spoken else ""
    begin(model, settings, towers, [said for text in texts[:20_000] if (said := indices(text.phones, inventory))])
    bf16 = settings.run.precision == "bf16-mixed"
    choose_attention(torch.device("cpu"), settings.run.precision)
    found = learn_to_read(model, tokenizer, mixed(texts, transcripts), steps, _RATE, settings.seed, bf16, kept)
    save_model(folder / "model", model, tokenizer, card="")
    click.echo(f"{folder / 'model'}: {found:.3f} of the texts that it was not taught find what they say")

"""`python -m trainer pretrain-text`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch

from clara_search.errors import ConfigError
from clara_search.models.clara.checkpoint import save_model
from clara_search.models.clara.towers import Clara
from trainer.commands.common import load_settings, recipe_options
from trainer.config.evaluation import load_evaluation
from trainer.data.captions import Captions
from trainer.data.corpus import load_corpus
from trainer.data.dataset import load_translations
from trainer.data.splits import split_corpus
from trainer.phones.g2p import phone_indices
from trainer.phones.pronunciations import Pronunciation, load_pronunciations
from trainer.pretraining.init import first_tokenizer, init_weights, load_towers, resolve_config
from trainer.pretraining.text_pretraining import (
    DEFAULT_BATCH_SIZE,
    DEFAULT_LEARNING_RATE,
    DEFAULT_NAMES_SHARE,
    load_anchors,
    mix_sources,
    pretrain_text,
    sound_names,
    transcripts,
)
from trainer.runtime.lightning import choose_attention


@click.command("read")
@recipe_options
@click.option("--readings", type=click.Path(path_type=Path), required=True, help="What `trainer readings` wrote.")
@click.option(
    "--steps", type=click.IntRange(min=1), default=1000, show_default=True, help=f"Of {DEFAULT_BATCH_SIZE} texts each."
)
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
    settings, folder = load_settings(recipe, sources, overrides, run)
    torch.manual_seed(settings.seed)
    towers = load_towers(settings.towers)
    tokenizer = first_tokenizer(settings, towers)
    if tokenizer is None:
        raise ConfigError("reading needs a tokenizer: name one as tokenizer.path, or a model as towers.begin")
    settings = replace(settings, model=resolve_config(settings, towers))
    if keep and not (settings.data.sources and settings.towers.begin):
        raise click.UsageError("--keep needs --data, and a model as towers.begin")
    texts, spoken_texts, kept = load_pronunciations(readings), list[Pronunciation](), None
    np.random.default_rng(settings.seed).shuffle(texts)
    if settings.data.sources:
        rate, cache = settings.model.mel.sample_rate, folder.parent / "cache"
        corpus = load_corpus(settings.data.sources, rate, cache, settings.data.decode)
        sides = split_corpus(corpus, settings.data, load_evaluation(settings.evaluation).digits)
        spoken_texts = transcripts(corpus, sides)
        if keep:
            captions = Captions(settings.captions, load_translations(settings.captions))
            kept = load_anchors(settings, sound_names(corpus, sides, captions, DEFAULT_NAMES_SHARE))
    model = Clara(settings.model).eval()
    inventory = settings.model.phone_head.phones if settings.model.phone_head else ""
    init_weights(
        model, settings, towers, [said for text in texts[:20_000] if (said := phone_indices(text.phones, inventory))]
    )
    bf16 = settings.run.precision == "bf16-mixed"
    choose_attention(torch.device("cpu"), settings.run.precision)
    found = pretrain_text(
        model, tokenizer, mix_sources(texts, spoken_texts), steps, DEFAULT_LEARNING_RATE, settings.seed, bf16, kept
    )
    save_model(folder / "model", model, tokenizer, card="")
    click.echo(f"{folder / 'model'}: {found:.3f} of the texts that it was not taught find what they say")

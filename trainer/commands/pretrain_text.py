"""`python -m trainer pretrain-text`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch

from clara_search.errors import ConfigError
from clara_search.models.clara.checkpoint import save_model
from clara_search.models.clara.text_phones import phone_indices
from clara_search.models.clara.towers import Clara
from trainer.commands.common import recipe_options
from trainer.config.evaluation import load_evaluation
from trainer.config.recipe import Recipe
from trainer.data.captions import Captions
from trainer.data.corpus import load_corpus
from trainer.data.dataset import load_translations
from trainer.data.splits import split_corpus
from trainer.phones.pronunciations import load_pronunciations
from trainer.pretraining.init import init_weights, load_tokenizer
from trainer.pretraining.text_pretraining import (
    DEFAULT_BATCH_SIZE,
    NUM_ANCHORS,
    embed_anchors,
    mix_sources,
    pretrain_text,
    sample_sound_names,
    transcripts,
)
from trainer.runtime.lightning import choose_attention

_INIT_TEXTS = 20_000
"""Texts from which a new bigram projection is initialised."""


@click.command("pretrain-text")
@recipe_options
@click.option(
    "--pronunciations", type=click.Path(path_type=Path), required=True, help="JSON lines of `make-pronunciations`."
)
@click.option(
    "--steps", type=click.IntRange(min=1), default=1000, show_default=True, help=f"Of {DEFAULT_BATCH_SIZE} texts each."
)
@click.option(
    "--anchor-sounds", is_flag=True, help="Keep the embeddings that --init has for names of sounds in --data."
)
def pretrain_text_command(settings: Recipe, out: Path, pronunciations: Path, steps: int, anchor_sounds: bool) -> None:
    """Train the text tower of RECIPE to embed texts by their pronunciation.

    With --data, the transcripts of its training recordings are used too. Writes the model folder OUT/model, for --init
    of the next command.
    """
    torch.manual_seed(settings.seed)
    settings = replace(settings, model=replace(settings.model, name=settings.name))
    tokenizer = load_tokenizer(settings)
    if tokenizer is None:
        raise ConfigError("no tokenizer: name one as tokenizer.path, or a model with --init")
    if anchor_sounds and not (settings.data.sources and settings.init.from_):
        raise click.UsageError("--anchor-sounds needs --data and --init")
    texts, spoken_texts, anchors = load_pronunciations(pronunciations), [], None
    np.random.default_rng(settings.seed).shuffle(texts)
    if settings.data.sources:
        rate, cache = settings.model.mel.sample_rate, out.parent / "cache"
        corpus = load_corpus(
            settings.data.sources, rate, cache, settings.data.cache_decoded, settings.data.manifest_columns
        )
        splits = split_corpus(corpus, settings.data, load_evaluation(settings.evaluation).digits)
        train = [corpus.examples[index] for index in splits.train]
        spoken_texts = transcripts(train)
        if anchor_sounds:
            captions = Captions(settings.captions, load_translations(settings.captions))
            anchors = embed_anchors(settings.init.from_, sample_sound_names(train, captions, NUM_ANCHORS))
    model = Clara(settings.model).eval()
    inventory = settings.model.phone_head.phones if settings.model.phone_head else ""
    phones = [phone_indices(text.phones, inventory) for text in texts[:_INIT_TEXTS]]
    init_weights(model, settings, [x for x in phones if x])
    choose_attention(torch.device("cpu"), settings.run.precision)
    bf16 = settings.run.precision == "bf16-mixed"
    recall = pretrain_text(
        model, tokenizer, mix_sources(texts, spoken_texts), steps, seed=settings.seed, bf16=bf16, anchors=anchors
    )
    save_model(out / "model", model, tokenizer, card="")
    click.echo(f"{out / 'model'}: recall@1 {recall:.3f} of held-out texts to their phones")

"""`python -m trainer fit-phone-bigrams`."""

from __future__ import annotations

from pathlib import Path

import click
import torch

from clara_search.errors import SourceError
from clara_search.models.clara.checkpoint import save_model
from clara_search.text.normalize import normalize_text
from trainer.commands.common import recipe_options
from trainer.config.recipe import Recipe
from trainer.pretraining.phone_bigrams import DEFAULT_BATCH_SIZE, audio_bigrams, fit_bigram_projection, text_bigrams


@click.command("fit-phone-bigrams")
@recipe_options
@click.option(
    "--steps", type=click.IntRange(min=1), default=600, show_default=True, help=f"Of {DEFAULT_BATCH_SIZE} pairs each."
)
def fit_phone_bigrams_command(settings: Recipe, out: Path, steps: int) -> None:
    """Fit the bigram projection of a model's phone head to its predictions for the training recordings of RECIPE.

    --init names the model. Writes the model folder OUT/model, for --init of the next command.
    """
    from trainer.pretraining.setup import set_up

    setup = set_up(settings, out, dry_run=True)
    model, corpus, phones = setup.module.model.eval(), setup.corpus, setup.phones
    transcripts = {} if phones is None else {i: phones.of(corpus.examples[i]) for i in setup.splits.train}
    indices = [index for index, transcript in transcripts.items() if transcript]
    if not indices:
        raise SourceError("none of the training recordings has phones")
    audio = audio_bigrams(model, corpus, indices, settings.data.max_audio_s)
    texts = [normalize_text(corpus.examples[index].text) for index in indices]
    numbers = {text: number for number, text in enumerate(sorted(set(texts)))}
    groups = torch.tensor([numbers[text] for text in texts])
    losses = fit_bigram_projection(
        model, audio, text_bigrams(model, [transcripts[index] for index in indices]), groups, steps
    )
    save_model(out / "model", model, setup.tokenizer, card="")
    click.echo(f"{out / 'model'}: {len(indices)} recordings, loss {losses[0]:.2f} -> {losses[-1]:.2f}")

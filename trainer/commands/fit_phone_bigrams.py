"""`python -m trainer fit-phone-bigrams`."""

from __future__ import annotations

from pathlib import Path

import click
import torch

from clara_search.errors import SourceError
from clara_search.models.clara.checkpoint import save_model
from clara_search.text.normalize import normalize_text
from trainer.commands.common import load_settings, recipe_options
from trainer.pretraining.phone_bigrams import DEFAULT_BATCH_SIZE, audio_bigrams, fit_bigram_projection, text_bigrams


@click.command("pairs")
@recipe_options
@click.option(
    "--steps", type=click.IntRange(min=1), default=600, show_default=True, help=f"Of {DEFAULT_BATCH_SIZE} pairs each."
)
def pairs_command(
    recipe: Path, sources: tuple[str, ...], overrides: tuple[str, ...], run: Path | None, steps: int
) -> None:
    """Fit the matrix of phone pairs of RECIPE to what the model of towers.begin hears in its training recordings.

    Writes a model folder, which a recipe names as its towers.begin.
    """
    from trainer.pretraining.run import prepare

    settings, folder = load_settings(recipe, sources, overrides, run)
    ready = prepare(settings, folder, rehearse=True)
    model, corpus, phones = ready.module.model.eval(), ready.corpus, ready.aids.phones
    spoken = [(i, said) for i in ready.sides.train if phones is not None and (said := phones.of(corpus.examples[i]))]
    if not spoken:
        raise SourceError("none of the recordings to train on has phones")
    indices = [index for index, _ in spoken]
    heard = audio_bigrams(model, corpus, indices, settings.data.max_audio_s)
    texts = [normalize_text(corpus.examples[index].text) for index in indices]
    numbers = {text: number for number, text in enumerate(sorted(set(texts)))}
    groups = torch.tensor([numbers[text] for text in texts])
    losses = fit_bigram_projection(model, heard, text_bigrams(model, [said for _, said in spoken]), groups, steps)
    save_model(folder / "model", model, ready.tokenizer, card="")
    click.echo(f"{folder / 'model'}: {len(indices)} recordings, the loss went from {losses[0]:.2f} to {losses[-1]:.2f}")

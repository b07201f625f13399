"""`python -m trainer fit-speech`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import click

from clara_search.errors import ClaraError


@click.command("fit-speech")
@click.argument("model")
@click.option("--data", "sources", multiple=True, required=True, help='Shards, folders, "DIR/*.tar", URLs; repeatable.')
@click.option("--held-out", multiple=True, metavar="SPEAKER", help="Speaker not to train on; repeatable.")
@click.option(
    "--exclude", multiple=True, metavar="SOURCE[:LANGUAGE]", help="Source, or its part in a language, not to train on."
)
@click.option("--steps", type=click.IntRange(min=0), help="Of phone recognition; 0 leaves the audio tower as it is.")
@click.option("--projection-steps", type=click.IntRange(min=1), help="Of the bigram projection.")
@click.option("--words", type=click.IntRange(min=1000), help="Words of each language that rules are learned from.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the run.")
def fit_speech_command(
    model: str,
    sources: tuple[str, ...],
    held_out: tuple[str, ...],
    exclude: tuple[str, ...],
    steps: int | None,
    projection_steps: int | None,
    words: int | None,
    out: Path,
) -> None:
    """Fit the speech half of MODEL (a name or a folder): pronunciation rules, phone recognition, bigram projection.

    An interrupted run goes on where it was. Under torchrun, several processes share the steps. Writes OUT/model.
    """
    try:
        import torch.distributed as dist

        from trainer.speech.build import SpeechFitting, fit_speech
    except ModuleNotFoundError as error:
        raise ClaraError(f"fitting speech needs {error.name}: pip install -e '.[train]'") from error
    settings = SpeechFitting(held_out=held_out, excluded=exclude)
    if steps is not None:
        settings = replace(settings, recognition=replace(settings.recognition, steps=steps))
    settings = replace(
        settings,
        projection_steps=projection_steps or settings.projection_steps,
        words=words or settings.words,
    )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("gloo")
    click.echo(fit_speech(model, sources, settings, out))

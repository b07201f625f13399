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
@click.option(
    "--words",
    type=click.IntRange(min=1000),
    help="Learn rules anew, from so many words of each language; else those of MODEL stay, if it has any.",
)
@click.option("--device", default="cpu", show_default=True, help="Of the phone recognition, such as cuda.")
@click.option("--batch-s", type=click.FloatRange(min=1), help="Seconds of audio in a step.  [default: 25]")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="End phone recognition after so long.")
@click.option("--workers", type=click.IntRange(min=0), default=1, show_default=True, help="Processes for batches.")
@click.option("--phones", type=click.Path(path_type=Path), help="Phones of the texts, out of a package.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of the run.")
@click.option(
    "--package",
    type=click.IntRange(min=1),
    metavar="MIB",
    help="Only write OUT.tar.xz of this size for another machine.",
)
def fit_speech_command(
    model: str,
    sources: tuple[str, ...],
    held_out: tuple[str, ...],
    exclude: tuple[str, ...],
    steps: int | None,
    projection_steps: int | None,
    words: int | None,
    device: str,
    batch_s: float | None,
    minutes: float | None,
    workers: int,
    phones: Path | None,
    out: Path,
    package: int | None,
) -> None:
    """Fit the speech half of MODEL (a name or a folder): pronunciation rules, phone recognition, bigram projection.

    An interrupted run goes on where it was. Under torchrun, several processes share the steps. Writes OUT/model.
    """
    try:
        import torch.distributed as dist

        from trainer.speech.batches import RecognitionConfig
        from trainer.speech.build import SpeechFitting, fit_speech, pack_speech
    except ModuleNotFoundError as error:
        raise ClaraError(f"fitting speech needs {error.name}: pip install -e '.[train]'") from error
    default = RecognitionConfig()
    recognition = replace(
        default, steps=default.steps if steps is None else steps, batch_s=batch_s or default.batch_s, minutes=minutes
    )
    settings = SpeechFitting(
        held_out=held_out,
        excluded=exclude,
        recognition=recognition,
        words=words,
        phones=phones,
        device=device,
        workers=workers,
    )
    settings = replace(settings, projection_steps=projection_steps or settings.projection_steps)
    if package is not None:
        path = out.with_name(f"{out.name}.tar.xz")
        click.echo(f"{path}: {pack_speech(model, sources, settings, path, package * 2**20)} recordings")
        return
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("gloo")
    click.echo(fit_speech(model, sources, settings, out))

"""`python -m trainer hear`: some of what a recipe trains on, to listen to and to look at."""

from __future__ import annotations

import csv
from pathlib import Path

import click
import numpy as np
import soundfile

from clara_search.errors import MissingDependency
from clara_search.files.atomic import make_folder
from trainer.commands.common import load_settings, recipe_options


@click.command("hear")
@recipe_options
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write to.")
@click.option("-n", "count", type=click.IntRange(min=1), default=12, show_default=True, help="Clips.")
@click.option("--epoch", type=click.IntRange(min=0), default=0, show_default=True, help="As they sound in this epoch.")
def hear_command(
    recipe: Path,
    sources: tuple[str, ...],
    overrides: tuple[str, ...],
    run: Path | None,
    out: Path,
    count: int,
    epoch: int,
) -> None:
    """Write some clips of RECIPE as they are trained on, with their captions, and a picture of their spectrograms."""
    settings, folder = load_settings(recipe, sources, overrides, run)
    try:
        import matplotlib as mpl

        from trainer.data.dataset import PairDataset
        from trainer.pretraining.run import Loaders, prepare
    except ModuleNotFoundError as error:
        raise MissingDependency(f"this needs {error.name}: pip install -e '.[train]'") from error
    make_folder(out)
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    ready = prepare(settings, folder, rehearse=True)
    pairs = PairDataset(ready.corpus, ready.sides.train, ready.recipe, ready.tokenizer, training=True)
    sampler = Loaders(ready).sampler()
    sampler.set_epoch(epoch)
    drawn = [draw for _, batch in sampler for draw in batch]
    rng = np.random.default_rng((settings.seed, epoch))
    chosen = [drawn[at] for at in rng.choice(len(drawn), min(count, len(drawn)), replace=False)]

    mel = ready.recipe.model.mel
    figure, axes = plt.subplots(len(chosen), 1, figsize=(10, 1.8 * len(chosen)), layout="constrained", squeeze=False)
    with (out / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "text", "original"])
        for number, ((index, draw), axis) in enumerate(zip(chosen, axes[:, 0], strict=True)):
            waveform, text = pairs.sounds_like(index, np.random.default_rng((settings.seed, epoch, draw)))
            name = f"{number:02d}.flac"
            soundfile.write(out / name, np.clip(waveform, -1.0, 1.0), mel.sample_rate)
            rows.writerow([name, text, ready.corpus.examples[index].text])
            pair = pairs.draw(index, np.random.default_rng((settings.seed, epoch, draw)))
            seconds = len(pair.log_mel) * mel.hop_length / mel.sample_rate
            axis.imshow(pair.log_mel.T, origin="lower", aspect="auto", extent=(0, seconds, 0, mel.n_mels), vmin=-1)
            axis.set_title(f"{name}: {text}"[:110], fontsize="small", loc="left")
    figure.savefig(out / "spectrograms.png", dpi=80)
    plt.close(figure)
    click.echo(f"{len(chosen)} clips, captions.csv and spectrograms.png in {out}")

"""`python -m trainer preview`: some training pairs of a recipe, to listen to and to look at."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import click
import numpy as np
import soundfile

from clara_search.errors import MissingDependency
from clara_search.files.atomic import make_folder
from clara_search.files.tables.formulas import guarded
from trainer.commands.common import DEFAULT_RUNS, recipe_options
from trainer.config.recipe import Recipe


@click.command("preview")
@partial(recipe_options, subfolder="preview")
@click.option("-n", "--count", type=click.IntRange(min=1), default=12, show_default=True, help="Clips.")
@click.option("--epoch", type=click.IntRange(min=0), default=0, show_default=True, help="Augmented as in this epoch.")
def preview_command(settings: Recipe, out: Path, count: int, epoch: int) -> None:
    """Write some training pairs of RECIPE to OUT: augmented clips, captions and a plot of their log-mels."""
    try:
        import matplotlib as mpl

        from trainer.data.dataset import PairDataset
        from trainer.pretraining.setup import Loaders, set_up
    except ModuleNotFoundError as error:
        raise MissingDependency(f"this needs {error.name}: pip install -e '.[train]'") from error
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    setup = set_up(settings, DEFAULT_RUNS / settings.name, dry_run=True)
    make_folder(out)
    pairs = PairDataset(setup.corpus, setup.splits.train, setup.recipe, setup.tokenizer, training=True)
    sampler = Loaders(setup).sampler()
    sampler.set_epoch(epoch)
    draws = [draw for _, batch in sampler for draw in batch]
    rng = np.random.default_rng((settings.seed, epoch))
    chosen = [draws[at] for at in rng.choice(len(draws), min(count, len(draws)), replace=False)]

    mel = setup.recipe.model.mel
    figure, axes = plt.subplots(len(chosen), 1, figsize=(10, 1.8 * len(chosen)), layout="constrained", squeeze=False)
    with (out / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "text", "original"])
        for number, ((index, draw), axis) in enumerate(zip(chosen, axes[:, 0], strict=True)):
            waveform, text = pairs.sample_waveform(index, np.random.default_rng((settings.seed, epoch, draw)))
            name = f"{number:02d}.flac"
            soundfile.write(out / name, np.clip(waveform, -1.0, 1.0), mel.sample_rate)
            rows.writerow([name, guarded(text), guarded(setup.corpus.examples[index].text)])
            pair = pairs.sample(index, np.random.default_rng((settings.seed, epoch, draw)))
            duration_s = len(pair.log_mel) * mel.hop_length / mel.sample_rate
            axis.imshow(pair.log_mel.T, origin="lower", aspect="auto", extent=(0, duration_s, 0, mel.n_mels), vmin=-1)
            axis.set_title(f"{name}: {text}"[:110], fontsize="small", loc="left")
    figure.savefig(out / "log-mels.png", dpi=80)
    plt.close(figure)
    click.echo(f"{len(chosen)} clips, captions.csv and log-mels.png in {out}")

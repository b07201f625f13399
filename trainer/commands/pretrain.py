"""`python -m trainer pretrain`."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import click

from clara_search.errors import MissingDependency
from trainer.commands.common import load_settings, recipe_options
from trainer.config.recipe import to_toml


@click.command("pretrain")
@recipe_options
@click.option("--init", metavar="MODEL", help="Begin with both towers of this model, a name or a folder.")
@click.option("--max-minutes", type=click.FloatRange(min=0), help="Stop after this long; the same command goes on.")
@click.option("--dry-run", is_flag=True, help="Print the recipe, counts, parameters, memory and steps, and stop.")
def pretrain_command(
    recipe: Path,
    sources: tuple[str, ...],
    overrides: tuple[str, ...],
    run: Path | None,
    init: str | None,
    max_minutes: float | None,
    dry_run: bool,
) -> None:
    """Train the model of RECIPE (a path, or a file of trainer/recipes) on recordings with texts."""
    settings, folder = load_settings(recipe, sources, overrides, run)
    if max_minutes is not None and not math.isfinite(max_minutes):
        raise click.BadParameter("a number of minutes", param_hint="--max-minutes")
    if init is not None:
        settings = dataclasses.replace(settings, towers=dataclasses.replace(settings.towers, audio=init, text=init))
    try:
        from trainer.pretraining.callbacks import Stopped, zero_shots
        from trainer.pretraining.run import check_machine, prepare, pretrain
    except ModuleNotFoundError as error:
        raise MissingDependency(f"training needs {error.name}: pip install -e '.[train]'") from error
    if not dry_run:
        try:
            click.echo(pretrain(settings, folder, max_minutes))
        except Stopped as stopped:
            if not stopped.planned:
                raise
            click.echo(stopped)
        return
    from trainer.pretraining.estimate import estimate

    check_machine(settings)
    ready = prepare(settings, folder, rehearse=True)
    zero_shots(ready.recipe, ready.tokenizer, folder.parent / "cache")  # for what it refuses
    click.echo(to_toml(ready.recipe))
    for name, value in estimate(ready):
        click.echo(f"{name:<34}{value}")

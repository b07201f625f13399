"""`python -m trainer pretrain`."""

from __future__ import annotations

import math
from pathlib import Path

import click

from clara_search.errors import MissingDependency
from trainer.commands.common import recipe_options
from trainer.config.recipe import Recipe, to_toml


@click.command("pretrain")
@recipe_options
@click.option("--max-minutes", type=click.FloatRange(min=0), help="Stop after this time; the same command resumes.")
@click.option("--dry-run", is_flag=True, help="Print the recipe, counts, parameters, memory and steps, and stop.")
def pretrain_command(settings: Recipe, out: Path, max_minutes: float | None, dry_run: bool) -> None:
    """Train the model of RECIPE (a file, or the name of one in trainer/recipes) on recordings with texts.

    Writes the model folder OUT/model. A run that was stopped resumes when the same command is run again.
    """
    if max_minutes is not None and not math.isfinite(max_minutes):
        raise click.BadParameter("a number of minutes", param_hint="--max-minutes")
    try:
        from trainer.pretraining.callbacks import Stopped
        from trainer.pretraining.run import pretrain
    except ModuleNotFoundError as error:
        raise MissingDependency(f"training needs {error.name}: pip install -e '.[train]'") from error
    if dry_run:
        _print_estimate(settings, out)
        return
    try:
        click.echo(pretrain(settings, out, max_minutes))
    except Stopped as stopped:
        if not stopped.planned:
            raise
        click.echo(stopped)


def _print_estimate(settings: Recipe, out: Path) -> None:
    from trainer.pretraining.callbacks import zero_shot_callbacks
    from trainer.pretraining.estimate import estimate
    from trainer.pretraining.run import check_machine
    from trainer.pretraining.setup import set_up

    check_machine(settings)
    setup = set_up(settings, out, dry_run=True)
    zero_shot_callbacks(setup.recipe, setup.tokenizer, out.parent / "cache")  # for its errors
    click.echo(to_toml(setup.recipe))
    for name, value in estimate(setup):
        click.echo(f"{name:<34}{value}")

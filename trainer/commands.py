"""`python -m trainer pretrain`, and the options that name a recipe and its data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from clara_search.errors import ClaraError
from clara_search.gate import ForeignUri, admit
from clara_search.places import is_url
from trainer.recipe import Recipe, as_toml, load_recipe

DEFAULT_RUNS = Path("runs")


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add RECIPE, --data, --set and --run to a command; `load` makes a recipe and a folder of them."""
    for option in (
        click.option("--run", type=click.Path(file_okay=False, path_type=Path), help="Its folder; default runs/NAME."),
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change the recipe; repeatable."),
        click.option(
            "--data", "sources", multiple=True, help='Shards, manifests, folders, "DIR/*.tar", URLs; repeatable.'
        ),
        click.argument("recipe", type=click.Path(path_type=Path)),
    ):
        command = option(command)
    return command


def load(recipe: Path, sources: tuple[str, ...], overrides: tuple[str, ...], run: Path | None) -> tuple[Recipe, Path]:
    """Return what the options of `recipe_options` say. Raises FormatError as `load_recipe` does.

    A recipe comes from others as manifests do: of the URLs that it names itself, only those that the gate admits.
    """
    settings = load_recipe(recipe, overrides)
    typed = {override.partition("=")[0].strip() for override in overrides} | ({"data.sources"} if sources else set())
    for key, urls in (("data.sources", settings.data.sources), ("run.zero_shot", settings.run.zero_shot)):
        for url in urls if key not in typed else ():
            if is_url(url):
                admit(ForeignUri(url))
    if sources:
        settings = dataclasses.replace(settings, data=dataclasses.replace(settings.data, sources=sources))
    return settings, run or DEFAULT_RUNS / settings.name


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
    settings, folder = load(recipe, sources, overrides, run)
    if max_minutes is not None and not math.isfinite(max_minutes):
        raise click.BadParameter("a number of minutes", param_hint="--max-minutes")
    if init is not None:
        settings = dataclasses.replace(settings, towers=dataclasses.replace(settings.towers, audio=init, text=init))
    try:
        from trainer.callbacks import Stopped, zero_shots
        from trainer.pretrain import check_machine, prepare, pretrain
    except ModuleNotFoundError as error:
        raise ClaraError(f"training needs {error.name}: pip install -e '.[train]'") from error
    if not dry_run:
        try:
            click.echo(pretrain(settings, folder, max_minutes))
        except Stopped as stopped:
            if not stopped.planned:
                raise
            click.echo(stopped)
        return
    from trainer.estimate import estimate

    check_machine(settings)
    ready = prepare(settings, folder, rehearse=True)
    zero_shots(ready.recipe, ready.tokenizer, folder.parent / "cache")  # for what it refuses
    click.echo(as_toml(ready.recipe))
    for name, value in estimate(ready):
        click.echo(f"{name:<34}{value}")

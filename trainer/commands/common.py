"""Options that several commands of the trainer share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from clara_search.files.gate import ForeignUri, admit
from clara_search.files.paths import is_url
from trainer.config.recipe import Recipe, load_recipe

DEFAULT_RUNS = Path("runs")


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add RECIPE, --data, --set and --run to a command; `load_settings` makes a recipe and a folder of them."""
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


def load_settings(
    recipe: Path, sources: tuple[str, ...], overrides: tuple[str, ...], run: Path | None
) -> tuple[Recipe, Path]:
    """Return what the options of `recipe_options` say. Raises as `load_recipe` does.

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

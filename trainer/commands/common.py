"""Options that several commands of the trainer share."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from clara_search.errors import ConfigError
from clara_search.files.gate import ForeignUri, admit
from clara_search.files.paths import is_url
from clara_search.files.redact import without_credentials
from trainer.config.recipe import Recipe, load_recipe
from trainer.config.sections import RunConfig

DEFAULT_RUNS = Path("runs")


def recipe_options(command: Callable[..., Any], subfolder: str = "") -> Callable[..., Any]:
    """Add RECIPE, --data, --init, --set and --out to a command, as `settings` (a Recipe) and `out` (a folder).

    The default folder is runs/NAME by the recipe's name, or `subfolder` in it.
    """

    @functools.wraps(command)
    def load(
        *,
        recipe: Path,
        sources: tuple[str, ...],
        init: str | None,
        overrides: tuple[str, ...],
        out: Path | None,
        **others: Any,
    ) -> Any:
        settings = load_settings(recipe, sources, init, overrides)
        return command(settings=settings, out=out or DEFAULT_RUNS / settings.name / subfolder, **others)

    decorated: Callable[..., Any] = load
    for option in (
        click.option(
            "--out",
            type=click.Path(file_okay=False, path_type=Path),
            help=f"Folder to write to.  [default: {DEFAULT_RUNS / 'NAME' / subfolder}, by the recipe's name]",
        ),
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting; repeatable."),
        click.option("--init", metavar="MODEL", help="Start from this model, a name or a folder; sets init.from."),
        click.option(
            "--data", "sources", multiple=True, help='Shards, manifests, folders, "DIR/*.tar", URLs; repeatable.'
        ),
        click.argument("recipe", type=click.Path(path_type=Path)),
    ):
        decorated = option(decorated)
    return decorated


def load_settings(
    recipe: Path, sources: tuple[str, ...] = (), init: str | None = None, overrides: tuple[str, ...] = ()
) -> Recipe:
    """Return a recipe with the settings of the command line.

    Recipes come from others, as manifests do: a URL that the file itself names must pass the gate for such URLs.

    Args:
        recipe: a file, or the name of a bundled recipe.
        sources: replace `data.sources`.
        init: replaces `init.from`.
        overrides: settings such as "optim.epochs=2".

    Raises:
        ClaraError: as `load_recipe` and `admit` do.
    """
    if init is not None:
        overrides = (*overrides, f"init.from={json.dumps(init, ensure_ascii=False)}")
    settings = load_recipe(recipe, overrides)
    typed = {override.partition("=")[0].strip() for override in overrides} | ({"data.sources"} if sources else set())
    for key, urls in (("data.sources", settings.data.sources), ("run.zero_shot", settings.run.zero_shot)):
        for url in urls if key not in typed else ():
            if is_url(url):
                admit(ForeignUri(url))
    _check_trackers(recipe, settings.run, typed)
    if sources:
        settings = dataclasses.replace(settings, data=dataclasses.replace(settings.data, sources=sources))
    return settings


def _check_trackers(recipe: Path, run: RunConfig, typed: set[str]) -> None:
    """Raise ConfigError if a recipe itself names a server that would get what the run logs."""
    tracking = run.tracking_uri
    # "databricks" is a server too: MLflow looks up its address and the user's key.
    is_folder = tracking.startswith("file:") or (":" not in tracking and not {"/", "\\"}.isdisjoint(tracking))
    if tracking and not is_folder and "run.tracking_uri" not in typed:
        raise ConfigError(
            f"{recipe}: names the tracking server {without_credentials(tracking)}, which gets what the run logs: it is "
            "contacted only where it is typed: give it as `overrides` run.tracking_uri=URL"
        )
    if "wandb" in run.loggers and "run.loggers" not in typed:
        raise ConfigError(
            f"{recipe}: logs to Weights & Biases, which gets what the run logs: it is contacted only where it is "
            """typed: give it as `overrides` run.loggers=["wandb"]"""
        )

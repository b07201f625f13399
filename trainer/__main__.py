"""`python -m trainer`: pretrain a model, speak a synthetic shard."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from trainer.speak import speak_command


@click.group()
def main() -> None:
    """Train CLARA models; runs from a checkout."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")


@main.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--data", "patterns", multiple=True, required=True, help='Shards or manifests, "DIR/*.tar"; repeatable.')
@click.option("--run", type=click.Path(file_okay=False, path_type=Path), help="Folder of the run; default runs/NAME.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change the recipe; repeatable.")
@click.option("--init", metavar="MODEL", help="Begin with the weights of this model, a name or a folder.")
@click.option("--max-minutes", type=float, help="Stop after this long; the same command goes on.")
def pretrain(
    recipe: Path,
    patterns: tuple[str, ...],
    run: Path | None,
    overrides: tuple[str, ...],
    init: str | None,
    max_minutes: float | None,
) -> None:
    """Train the model of RECIPE (a path, or a file of trainer/recipes) on recordings with texts."""
    from clara_search.errors import ClaraError
    from trainer.recipe import load_recipe

    try:
        from trainer.pretrain import pretrain as run_pretraining
    except ModuleNotFoundError as error:
        raise click.ClickException(f"training needs {error.name}: pip install -e '.[train]'") from error
    try:
        settings = load_recipe(recipe, overrides)
        folder = run_pretraining(settings, patterns, run or Path("runs") / settings.name, max_minutes, init)
    except ClaraError as error:
        raise click.ClickException(str(error)) from error
    click.echo(folder)


main.add_command(speak_command)

if __name__ == "__main__":
    main()

"""`python -m trainer fit-sound-head`."""

from __future__ import annotations

from pathlib import Path

import click

from clara_search.errors import ClaraError


@click.command("fit-sound-head")
@click.argument("model")
@click.option("--data", "sources", multiple=True, required=True, help='Shards, folders, "DIR/*.tar", URLs; repeatable.')
@click.option(
    "--wheels",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    required=True,
    help="Folder of wheels.",
)
@click.option("--held-out", multiple=True, metavar="SPEAKER", help="Speaker not to train on; repeatable.")
@click.option("--epochs", type=click.IntRange(min=0), default=10, show_default=True, help="Of the corrections.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="The folder to write.")
def fit_sound_head_command(
    model: str, sources: tuple[str, ...], wheels: Path, held_out: tuple[str, ...], epochs: int, out: Path
) -> None:
    """Add a sound head, a second block of the vector for sounds, to MODEL (a name or a folder); write it to OUT."""
    try:
        from trainer.sounds.build import build

        build(model, wheels, sources, held_out, out, epochs)
    except ModuleNotFoundError as error:
        raise ClaraError(f"a sound head needs {error.name}: pip install -e '.[train]'") from error
    click.echo(out)

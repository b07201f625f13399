"""`clara-search models`: list, show, convert and push models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from clara_search.commands.common import Align, json_option, print_facts, print_json, print_table
from clara_search.commands.output import echo_line

if TYPE_CHECKING:
    from clara_search.models.clara.released_tokenizer import TransformersVersion


@click.group()
def models() -> None:
    """List and show models, convert released checkpoints, share models."""


@models.command("list")
@json_option
def list_models(as_json: bool) -> None:
    """List the bundled models."""
    from clara_search.models import registry as catalog

    described = [catalog.describe_model(name) for name in catalog.bundled_models()]
    if as_json:
        print_json(described)
        return
    columns: dict[str, Align] = {
        "name": "left",
        "dim": "right",
        "sample_rate": "right",
        "parameters": "right",
        "licence": "fill",
    }
    print_table(columns, (tuple(str(model.get(column, "")) for column in columns) for model in described))


@models.command("show")
@click.argument("model")
@json_option
def show_model(model: str, as_json: bool) -> None:
    """Show the facts and the card of MODEL, a name, a folder or a hub id."""
    from clara_search.models import registry as catalog

    described = catalog.describe_model(model)
    if as_json:
        print_json([described])
    else:
        print_facts(described)


@models.command("convert")
@click.argument("checkpoint", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="The model folder.")
@click.option("--name", help="Name of the model.  [default: that of the file]")
@click.option("--sample-rate", type=click.IntRange(min=1), help="Sample rate in training, in Hz.  [default: 48000]")
@click.option(
    "--vocabulary",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Whisper's multilingual.tiktoken.  [default: that of the installed openai-whisper]",
)
@click.option(
    "--transformers-version",
    type=click.Choice(["4", "5"]),
    default="4",
    show_default=True,
    help="Major version of transformers in training: under 4, as released, words that begin with t have other tokens "
    "than under 5.",
)
@click.option(
    "--dtype",
    type=click.Choice(["fp32", "fp16"]),
    default="fp32",
    show_default=True,
    help="Precision of the stored weights.",
)
def convert_model(
    checkpoint: Path,
    out: Path,
    name: str | None,
    sample_rate: int | None,
    vocabulary: Path | None,
    transformers_version: str,
    dtype: str,
) -> None:
    """Convert a released CLARA CHECKPOINT (Lightning's .ckpt) to a model folder.

    Only tensors and plain values are read from it. A tensor that is missing, unknown or of another shape is an error;
    prefixes that DistributedDataParallel, torch.compile and the like add to names are stripped, with a message.
    """
    import torch

    from clara_search.models.clara import convert as released

    rate = sample_rate or released.RELEASED_SAMPLE_RATE
    version: TransformersVersion = 5 if transformers_version == "5" else 4
    model = released.convert(
        checkpoint, out, vocabulary, rate, name, torch.float16 if dtype == "fp16" else torch.float32, version
    )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    echo_line(f"{out}: {model.config.name}, {parameters:,} parameters; use it with --model {out}")


@models.command("push")
@click.argument("model", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("repository", metavar="ORGANISATION/NAME")
@click.option("--private", is_flag=True, help="Only for the organisation.")
def push_model(model: Path, repository: str, private: bool) -> None:
    """Upload the model of the folder MODEL to the Hugging Face hub, where `--model ORGANISATION/NAME` finds it.

    Only the files of a model are uploaded. They are listed first, and so are the other files of the folder.
    """
    from clara_search.models import hub
    from clara_search.models.registry import load_encoder

    load_encoder(model, device="cpu").encode_text(["a broken folder is not shared"])
    files, others = hub.list_files_to_push(model)
    for path in files:
        echo_line(f"To upload: {path.name} ({path.stat().st_size:,} bytes)", err=True)
    if others:
        echo_line(f"Left out: {', '.join(path.name for path in others)}", err=True)
    echo_line(hub.push_model(files, repository, private))

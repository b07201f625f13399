"""`python -m trainer probe`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from clara_search.commands.common import Align, device_option, print_table
from clara_search.commands.output import echo_line

DEFAULT_CACHE = Path("runs") / "cache" / "vectors"


@click.command("probe")
@click.option("--data", required=True, metavar="MANIFEST", help="A manifest of `prepare` or of your own, or shards.")
@click.option("--label", "labels", multiple=True, required=True, help="Column to predict; several share a trunk.")
@click.option("--model", default="clara-small", show_default=True, help="Name, folder or hub id of the model.")
@device_option
@click.option("--head", type=click.Choice(["linear", "mlp", "knn", "logistic"]), default="linear", show_default=True)
@click.option(
    "--inputs",
    type=click.Choice(["audio", "text", "both", "late"]),
    default="audio",
    show_default=True,
    help="The recording's vector, that of its text, both in one, or a head for each whose answers are mixed.",
)
@click.option("--unfreeze", default="none", show_default=True, metavar="none|last:N|lora:RANK|all")
@click.option(
    "--balance",
    type=click.Choice(["none", "weights", "sampling"]),
    default="none",
    show_default=True,
    help="Let classes count alike: by weights of the loss, or by how often they are sampled.",
)
@click.option("--multi-label", is_flag=True, help="A clip may have several labels, with commas between them.")
@click.option("--trials", type=click.IntRange(min=0), default=0, show_default=True, help="Settings to try, by Optuna.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Another setting; repeatable.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write to.  [default: runs/probe-LABEL]",
)
@click.option("--cache", type=click.Path(file_okay=False, path_type=Path), default=DEFAULT_CACHE, show_default=True)
@click.option("--logger", "loggers", multiple=True, type=click.Choice(["mlflow", "tensorboard", "wandb"]))
def probe_command(
    data: str,
    labels: tuple[str, ...],
    model: str,
    device: str | None,
    head: str,
    inputs: str,
    unfreeze: str,
    balance: str,
    multi_label: bool,
    trials: int,
    seed: int,
    overrides: tuple[str, ...],
    out: Path | None,
    cache: Path,
    loggers: tuple[str, ...],
) -> None:
    """Fit a head over MODEL to the labels of MANIFEST, and test it.

    The data's own splits or folds are used; where there are none, folds are made in which no speaker stands in two.
    The encoder stays as it is, and its vectors are kept in CACHE, unless --unfreeze says otherwise. The run's folder
    gets `head` (for clara-search classify --head), report.json, log.csv and pictures. --set changes what
    trainer/probing/experiment.py and trainer/probing/sgd.py document, such as fit.lr=3e-4 or folds=10.

    \b
    python -m trainer prepare meld --source MELD.Raw --out data/meld
    python -m trainer probe --data data/meld/manifest.csv --label emotion --head mlp --inputs both
    """  # noqa: D301 - click wants the \b itself
    from clara_search.config import from_mapping
    from trainer.config.recipe import apply_override
    from trainer.probing.experiment import ProbeConfig
    from trainer.probing.run import probe

    values: dict[str, Any] = {
        "data": data,
        "labels": labels,
        "model": model,
        "device": device,
        "unfreeze": unfreeze,
        "multi_label": multi_label,
        "trials": trials,
        "loggers": loggers,
        "fit": {"head": head, "inputs": inputs, "balance": balance, "seed": seed},
    }
    for override in overrides:
        apply_override(values, override)
    config = from_mapping(ProbeConfig, values, "probe")
    folder = out or Path("runs") / f"probe-{'-'.join(labels)}"
    facts = probe(config, folder, cache)
    print_report(facts)
    click.echo(f"\n{folder}")


def print_report(facts: Mapping[str, Any]) -> None:
    """Print the scores of a probe beside what guessing reaches, and what has to be known to read them."""
    from trainer.probing.report import summarize

    clips = facts["clips"]
    echo_line(f"{facts['model']['name']} on {clips['used']} clips, {facts['fold_kind']}")
    rows = []
    for column, one in facts["labels"].items():
        for measure, score in one["scores"].items():
            low, high = score["interval"]
            rows.append(
                (
                    column,
                    measure.replace("_", " "),
                    f"{score['value']:.3f}",
                    f"{low:.3f}-{high:.3f}",
                    f"{one['majority'][measure]:.3f}",
                    f"{one['chance'][measure]:.3f}",
                    str(one["n"]),
                    str(len(one["classes"])),
                )
            )
    columns: dict[str, Align] = {"label": "left", "measure": "left", "score": "right", "95 % interval": "right"}
    columns |= {"majority": "right", "chance": "right", "clips": "right", "classes": "right"}
    print_table(columns, rows)
    for line in summarize(facts):
        echo_line(f"! {line}")

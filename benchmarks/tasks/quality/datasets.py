"""The catalogue of published datasets: where they are, what their licence allows, and whether a copy is complete."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.report import markdown, out_option, publish
from clara_search.datasets.completeness import check_dataset
from clara_search.datasets.declarations.catalogue import DATASETS, find_dataset
from clara_search.errors import SourceError

_SHOWN = 5


@click.group(invoke_without_command=True)
@click.pass_context
def datasets(context: click.Context) -> None:
    """List the published datasets that are declared, with licence, paper and home; nothing is downloaded."""
    if context.invoked_subcommand is None:
        rows = []
        for dataset in DATASETS.values():
            stated = ", ".join(f"{part} {count:,}" for part, count in dataset.counts.items())
            licence = dataset.licence or "see its home"
            rows.append([dataset.name, stated or "by its tables", licence, dataset.citation, dataset.home])
        click.echo(markdown(["dataset", "recordings", "licence", "paper", "home"], rows))


@datasets.command()
@click.argument("name")
@click.option("--root", required=True, type=click.Path(path_type=Path), help="Folder that the dataset was copied to.")
@out_option
def check(name: str, root: Path, out: Path | None) -> None:
    """Tell whether the copy of the dataset NAME is complete.

    Counts what its tables list, what of that is there, and what its publisher states, by split and fold.
    """
    dataset = find_dataset(name)
    found = check_dataset(dataset, root)
    rows = [
        [part, "-" if x.expected is None else f"{x.expected:,}", f"{x.listed:,}", f"{x.found:,}"]
        for part, x in found.parts.items()
    ]
    result = {
        "benchmark": "datasets check",
        "dataset": dataset.name,
        "root": str(root),
        "complete": found.is_complete,
        "rows": found.rows,
        "parts": {part: vars(x) for part, x in found.parts.items()},
        "missing": list(found.missing),
    }
    publish(result, markdown(["part", "stated", "listed", "there"], rows), out)
    click.echo(f"{dataset.name}: {dataset.licence or 'licence: see its home'}; {dataset.citation}; {dataset.home}")
    if not found.is_complete:
        listed = ", ".join(found.missing[:_SHOWN]) + (", ..." if len(found.missing) > _SHOWN else "")
        absent = sum(max((x.expected or 0) - x.listed, 0) for x in found.parts.values())
        reasons = [f"{len(found.missing)} recordings are missing: {listed}"] if found.missing else []
        reasons += [f"its tables list {absent} recordings fewer than its publisher states"] if absent else []
        raise SourceError(f"{root}: {dataset.name} is not complete: {'; '.join(reasons)}")
    click.echo("Complete.")

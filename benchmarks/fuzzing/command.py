"""Fuzzing of the readers of foreign files."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from benchmarks.fuzzing.campaign import Tally, Worker, fuzz_reader
from benchmarks.fuzzing.readers import READERS
from benchmarks.report import markdown, out_option, publish
from clara_search.errors import ClaraError
from clara_search.text.printable import printable


@click.command()
@click.option(
    "--minutes", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Of all readers together."
)
@click.option("--cases", type=click.IntRange(min=1), help="Most cases of a reader.")
@click.option("--reader", "names", multiple=True, type=click.Choice(list(READERS)), help="A reader; repeatable.")
@click.option("--seed", default=0, show_default=True, help="Of the cases: the same seed makes the same ones.")
@click.option("--keep", type=click.Path(path_type=Path), help="Folder for the files of findings, made small.")
@out_option
def fuzz(
    minutes: float, cases: int | None, names: tuple[str, ...], seed: int, keep: Path | None, out: Path | None
) -> None:
    """Change small good files at random, and give them to the readers of foreign files.

    Each case has to be read, or refused with an error of one line, in 10 s of processor time and 600 MiB. Anything
    else is a finding, and the command fails.
    """
    names = names or tuple(READERS)
    tallies = dict[str, Tally]()
    with tempfile.TemporaryDirectory() as folder, Worker() as worker:
        for name in names:
            more = _limits(60 * minutes / len(names), cases)
            tallies[name] = fuzz_reader(name, seed, more, worker, Path(folder), keep)
    rows = [
        [name, f"{x.cases:,}", f"{x.cases / max(x.seconds, 1e-9):.1f}", f"{x.refused:,}", f"{x.most_mib}",
         f"{x.longest_s:.1f}", f"{len(x.findings)}"]
        for name, x in tallies.items()
    ]  # fmt: skip
    headings = ["reader", "cases", "cases/s", "refused", "most MiB", "longest s", "findings"]
    publish({"benchmark": "fuzz", "seed": seed, "readers": _values(tallies)}, markdown(headings, rows), out)
    found = [finding for tally in tallies.values() for finding in tally.findings.values()]
    for one in found:
        click.echo(
            printable(f"{one.reader}: {one.problem[:200]} ({one.where}; {one.count} cases; {one.kept or one.seed})")
        )
    if found:
        raise ClaraError(f"{len(found)} findings: neither read, nor refused by an error of one line")


def _limits(seconds: float, cases: int | None) -> Callable[[int], bool]:
    """Return what tells whether to go on, for so many seconds from its first call, and so many cases."""
    ends: list[float] = []

    def more(count: int) -> bool:
        ends[:] = ends or [time.monotonic() + seconds]
        return time.monotonic() < ends[0] and (cases is None or count < cases)

    return more


def _values(tallies: dict[str, Tally]) -> dict[str, Any]:
    return {
        name: {**asdict(tally), "findings": [asdict(finding) for finding in tally.findings.values()]}
        for name, tally in tallies.items()
    }

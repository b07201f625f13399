"""`python -m benchmarks`: the demo, and benchmarks that print a Markdown table and write one JSON object with --out."""

from __future__ import annotations

import click

from clara_search.commands.lazy_group import LazyGroup


class Benchmarks(LazyGroup):
    """The benchmarks and where they are."""

    homes = {  # noqa: RUF012 - a constant
        "demo": "benchmarks.demo.run:demo",
        "bundled": "benchmarks.tasks.bundled:bundled",
        "retrieval": "benchmarks.tasks.retrieval:retrieval",
        "zero-shot": "benchmarks.tasks.zero_shot:zero_shot",
        "probe": "benchmarks.tasks.probe:probe",
        "extraction": "benchmarks.tasks.extraction:extraction",
        "throughput": "benchmarks.tasks.throughput:throughput",
        "indexing": "benchmarks.tasks.indexing:indexing",
        "faults": "benchmarks.tasks.faults:faults",
        "scale": "benchmarks.tasks.scale:scale",
        "training": "benchmarks.tasks.training:training",
        "search": "benchmarks.tasks.search_latency:search",
    }


@click.group(cls=Benchmarks)
def main() -> None:
    """Measure how well the model finds and how fast everything runs."""


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")

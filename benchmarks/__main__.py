"""`python -m benchmarks`: the demo, and benchmarks that print a Markdown table and write one JSON object with --out."""

from __future__ import annotations

import click

from clara_search.commands.lazy import LazyGroup


class Benchmarks(LazyGroup):
    """The benchmarks and where they are."""

    homes = {  # noqa: RUF012 - a constant
        "demo": "benchmarks.demo:demo",
        "bundled": "benchmarks.bundled:bundled",
        "retrieval": "benchmarks.retrieval:retrieval",
        "zero-shot": "benchmarks.zero_shot:zero_shot",
        "probe": "benchmarks.probe:probe",
        "extraction": "benchmarks.extraction:extraction",
        "throughput": "benchmarks.throughput:throughput",
        "indexing": "benchmarks.indexing:indexing",
        "faults": "benchmarks.faults:faults",
        "scale": "benchmarks.scale:scale",
        "training": "benchmarks.training:training",
        "search": "benchmarks.search_latency:search",
    }


@click.group(cls=Benchmarks)
def main() -> None:
    """Measure how well the model finds and how fast everything runs."""


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")

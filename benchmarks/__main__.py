"""`python -m benchmarks`: the demo, and benchmarks that print a Markdown table and write one JSON object with --out."""

from __future__ import annotations

import click

from clara_search.commands.lazy_group import LazyGroup
from clara_search.commands.options import limit_option, network_options_for_data


class Benchmarks(LazyGroup):
    """The benchmarks; a new one is a file in benchmarks/tasks and a line here."""

    homes = {  # noqa: RUF012 - a constant
        "demo": "benchmarks.demo.run:demo",
        "bundled": "benchmarks.tasks.quality.bundled:bundled",
        "retrieval": "benchmarks.tasks.quality.retrieval:retrieval",
        "zero-shot": "benchmarks.tasks.quality.zero_shot:zero_shot",
        "probe": "benchmarks.tasks.quality.probe:probe",
        "report": "benchmarks.tasks.quality.report:report",
        "datasets": "benchmarks.tasks.quality.datasets:datasets",
        "moments": "benchmarks.tasks.quality.moments:moments",
        "ranking": "benchmarks.tasks.quality.ranking:ranking",
        "throughput": "benchmarks.tasks.throughput:throughput",
        "formats": "benchmarks.tasks.formats:formats",
        "indexing": "benchmarks.tasks.indexing:indexing",
        "end-to-end": "benchmarks.tasks.end_to_end:end_to_end",
        "faults": "benchmarks.tasks.faults:faults",
        "operations": "benchmarks.tasks.operations:operations",
        "scale": "benchmarks.tasks.scale:scale",
        "search": "benchmarks.tasks.search_latency:search",
        "ann": "benchmarks.tasks.ann.tuned:ann_recall",
        "answering": "benchmarks.tasks.answers.answering:answering",
        "localisation": "benchmarks.tasks.answers.localisation:localisation",
        "words": "benchmarks.tasks.answers.words:words",
        "extraction": "benchmarks.tasks.extraction:extraction",
        "fuzz": "benchmarks.fuzzing.command:fuzz",
        "training": "benchmarks.tasks.training:training",
    }
    options = (limit_option, network_options_for_data)


@click.group(cls=Benchmarks)
def main() -> None:
    """Measure the quality of the model and the speed of indexing, search and training."""


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")

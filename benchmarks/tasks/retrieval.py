"""Retrieval scores of a model, text to audio and audio to text, in full galleries, beside chance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmarks.examples import data_option, embed_examples, model_option, select, where_option
from benchmarks.report import markdown, out_option, publish
from clara_search.metrics.intervals import Interval
from clara_search.models.registry import load_encoder
from trainer.evaluation.retrieval import KS, Scores, score_pairs


@click.command()
@data_option
@model_option
@click.option(
    "--split",
    type=click.Choice(["test", "valid", "train", "all"]),
    default="test",
    show_default=True,
    help="Of the texts.",
)
@where_option
@out_option
def retrieval(data: str, model: str, split: str, where: tuple[str, ...], out: Path | None) -> None:
    """Score retrieval of recordings by texts, and the reverse.

    Prints recall@1, @5 and @10 and mAP@10. Texts that differ only in case and punctuation are one query, and all
    recordings that have it are its positives; of a recording with several captions each is a query.
    """
    encoder = load_encoder(model)
    examples, audio, failures = embed_examples(encoder, select(data, split, where))
    scores = score_pairs(encoder, examples, audio)
    result = {
        "benchmark": "retrieval",
        "model": encoder.name,
        "fingerprint": encoder.fingerprint,
        "data": data,
        "split": split,
        "where": list(where),
        "clips": len(examples),
        "failures": failures,
        "scores": {
            name: {direction: x.as_dict() for direction, x in by_direction.items()}
            for name, by_direction in scores.items()
        },
    }
    publish(result, table(scores), out)


def table(scores: Scores) -> str:
    """Return the scores as a Markdown table, in percent, with 95 % intervals and chance."""
    rows = []
    for name, by_direction in scores.items():
        for direction, x in by_direction.items():
            cells: list[Any] = [name, direction.replace("_", " "), str(x.n_queries), str(x.n_gallery)]
            cells += [_cell(x.recall[k], x.recall_interval[k], x.chance_recall[k]) for k in KS]
            cells += [_cell(x.map10, x.map10_interval, x.chance_map10), f"{x.median_rank:g}"]
            rows.append(cells)
    headings = [
        "examples",
        "direction",
        "queries",
        "gallery",
        *(f"R@{k} (chance)" for k in KS),
        "mAP@10 (chance)",
        "median",
    ]
    return markdown(headings, rows) + "\n\nIn percent, with 95 % intervals; median: of the rank of the first positive."


def _cell(value: float, interval: Interval, chance: float) -> str:
    low, high = interval
    return f"{value:.1%} [{low:.1%}, {high:.1%}] ({chance:.2%})".replace("%", "")

"""Recall@1/5/10 and mAP@10 of a model, text to audio and audio to text, over full galleries, chance beside them."""

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
    "--split", type=click.Choice(["test", "valid", "train", "all"]), default="test", show_default=True, help="By text."
)
@where_option
@out_option
def retrieval(data: str, model: str, split: str, where: tuple[str, ...], out: Path | None) -> None:
    """Score how well texts find recordings and recordings find texts.

    A text is a query once, however many recordings have it, and all of those are its positives. Texts are the same
    where they differ only in case and punctuation.
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
        "scores": {name: {way: one.as_dict() for way, one in ways.items()} for name, ways in scores.items()},
    }
    publish(result, table(scores), out)


def table(scores: Scores) -> str:
    """Return the scores as a Markdown table, in percent, with 95 % intervals and chance levels."""
    rows = []
    for name, ways in scores.items():
        for way, one in ways.items():
            cells: list[Any] = [name, way.replace("_", " "), str(one.n_queries), str(one.n_gallery)]
            cells += [_cell(one.recall[k], one.recall_interval[k], one.chance_recall[k]) for k in KS]
            cells += [_cell(one.map10, one.map10_interval, one.chance_map10), f"{one.median_rank:g}"]
            rows.append(cells)
    headings = ["examples", "way", "queries", "gallery", *(f"R@{k} (chance)" for k in KS), "mAP@10 (chance)", "median"]
    return markdown(headings, rows) + "\n\nIn percent, with 95 % intervals; median: of the rank of the first positive."


def _cell(value: float, interval: Interval, chance: float) -> str:
    low, high = interval
    return f"{value:.1%} [{low:.1%}, {high:.1%}] ({chance:.2%})".replace("%", "")

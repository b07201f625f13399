"""Retrieval scores of a model, text to audio and audio to text, in full galleries, beside chance."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import click

from benchmarks.examples import (
    Embedded,
    data_option,
    embed_examples,
    missing_option,
    model_option,
    require_complete,
    select,
    split_option,
    where_option,
)
from benchmarks.report import markdown, out_option, publish
from clara_search.metrics.intervals import Interval
from clara_search.metrics.retrieval import RULES
from clara_search.models.registry import load_encoder
from trainer.evaluation.retrieval import KS, Captioned, Scores, score_pairs


@click.command()
@data_option
@model_option
@split_option("test")
@where_option
@missing_option
@out_option
def retrieval(data: str, model: str, split: str, where: tuple[str, ...], allow_missing: bool, out: Path | None) -> None:
    """Score retrieval of recordings by texts, and the reverse.

    Prints recall@1, @5 and @10, mAP@10 and mAP@16. Every caption is a query. Those that differ only in case and
    punctuation are one, and all recordings that have it are right; of a recording with several captions any is right
    for recall@k, and all count for mAP@k. Recordings of equal content are one recording. Ties count as errors.
    """
    encoder = load_encoder(model)
    problems: list[str] = []
    clips = embed_examples(encoder, select(data, split, where, problems))
    failures = [*problems, *clips.failures]
    require_complete(failures, allow_missing)
    scores = score_pairs(encoder, clips.examples, clips.vectors, clips.hashes)
    result = {
        "benchmark": "retrieval",
        "model": encoder.name,
        "fingerprint": encoder.fingerprint,
        "data": data,
        "split": split,
        "where": list(where),
        **counts(clips),
        "complete": not failures,
        "failures": failures,
        "rules": RULES,
        "scores": {
            name: {direction: x.as_dict() for direction, x in by_direction.items()}
            for name, by_direction in scores.items()
        },
    }
    publish(result, table(scores) + remarks(result), out)


def counts(clips: Embedded) -> dict[str, Any]:
    """Return what was scored: numbers of clips, captions, different captions and copies, and who split them."""
    examples = clips.examples
    declared = Counter("the data" if example.split else "hash of the texts" for example in examples)
    return {
        "clips": len(examples),
        "captions": sum(1 + len(example.alternatives) for example in examples),
        "different_captions": len(Captioned.of(examples).texts),
        "copies": len(examples) - len(set(clips.hashes)),
        "split_by": dict(declared),
    }


def remarks(result: dict[str, Any]) -> str:
    """Return what a reader of the table has to know beside it."""
    facts = [
        f"{result['captions']} captions of {result['clips']} clips, {result['different_captions']} of them different",
        *([f"{result['copies']} clips are copies of others"] if result["copies"] else []),
        *(f"{number} clips split by {by}" for by, number in result["split_by"].items() if result["split"] != "all"),
        *([] if result["complete"] else [f"INCOMPLETE: {len(result['failures'])} recordings or captions are missing"]),
    ]
    return "\n" + "; ".join(facts) + "."


def table(scores: Scores) -> str:
    """Return the scores as a Markdown table, in percent, with 95 % intervals and chance."""
    rows = []
    for name, by_direction in scores.items():
        for direction, x in by_direction.items():
            cells: list[Any] = [name, direction.replace("_", " "), str(x.n_queries), str(x.n_gallery)]
            cells += [_cell(x.recall[k], x.recall_interval[k], x.chance_recall[k]) for k in KS]
            cells += [
                _cell(x.map10, x.map10_interval, x.chance_map10),
                _cell(x.map16, x.map16_interval, x.chance_map16),
                f"{x.median_rank:g}",
            ]
            rows.append(cells)
    headings = [
        "examples",
        "direction",
        "queries",
        "gallery",
        *(f"R@{k} (chance)" for k in KS),
        "mAP@10 (chance)",
        "mAP@16 (chance)",
        "median",
    ]
    return markdown(headings, rows) + "\n\nIn percent, with 95 % intervals; median: of the rank of the first positive."


def _cell(value: float, interval: Interval, chance: float) -> str:
    low, high = interval
    return f"{value:.1%} [{low:.1%}, {high:.1%}] ({chance:.2%})".replace("%", "")

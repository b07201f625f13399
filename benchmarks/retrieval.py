"""Recall@1/5/10 and mAP@10 of a model, text to audio and audio to text, over full galleries, chance beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from benchmarks.examples import data_option, embed_examples, embed_texts, model_option, select, where_option
from benchmarks.report import markdown, out_option, publish
from clara_search import metrics
from clara_search.datasets.spec import Example
from clara_search.datasets.split import normalise
from clara_search.encoder import Embeddings, Encoder, load_encoder

_KS = (1, 5, 10)


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
    scores = score(encoder, examples, audio)
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


def score(
    encoder: Encoder, examples: Sequence[Example], audio: Embeddings
) -> dict[str, dict[str, metrics.RetrievalScores]]:
    """Return the scores of all examples and of each kind, both ways.

    A kind is scored twice: in a gallery of its own ("sound"), and as queries to the gallery of all ("sound in all").
    """
    keys = [normalise(example.text) for example in examples]
    firsts = {key: position for position, key in reversed(list(enumerate(keys)))}
    unique = sorted(firsts)
    described = [examples[firsts[key]] for key in unique]
    texts = embed_texts(encoder, [e.text for e in described], [e.text_language for e in described])
    number = {key: position for position, key in enumerate(unique)}
    text_groups = np.arange(len(unique))
    audio_groups = np.array([number[key] for key in keys])
    kinds = np.array([example.kind for example in examples])

    def both_ways(asked: npt.NDArray[np.bool_], gallery: npt.NDArray[np.bool_]) -> dict[str, metrics.RetrievalScores]:
        asked_texts, gallery_texts = (np.isin(text_groups, audio_groups[clips]) for clips in (asked, gallery))
        return {
            "text_to_audio": metrics.retrieval(
                texts[asked_texts], audio[gallery], text_groups[asked_texts], audio_groups[gallery], _KS
            ),
            "audio_to_text": metrics.retrieval(
                audio[asked], texts[gallery_texts], audio_groups[asked], text_groups[gallery_texts], _KS
            ),
        }

    everything = np.ones(len(examples), dtype=bool)
    scores = {"all": both_ways(everything, everything)}
    present = sorted(set(kinds.tolist()))
    for kind in present if len(present) > 1 else []:
        scores[kind] = both_ways(kinds == kind, kinds == kind)
        scores[f"{kind} in all"] = both_ways(kinds == kind, everything)
    return scores


def table(scores: dict[str, dict[str, metrics.RetrievalScores]]) -> str:
    """Return the scores as a Markdown table, in percent, with 95 % intervals and chance levels."""
    rows = []
    for name, ways in scores.items():
        for way, one in ways.items():
            cells: list[Any] = [name, way.replace("_", " "), str(one.n_queries), str(one.n_gallery)]
            cells += [_cell(one.recall[k], one.recall_interval[k], one.chance_recall[k]) for k in _KS]
            cells += [_cell(one.map10, one.map10_interval, one.chance_map10), f"{one.median_rank:g}"]
            rows.append(cells)
    headings = ["examples", "way", "queries", "gallery", *(f"R@{k} (chance)" for k in _KS), "mAP@10 (chance)", "median"]
    return markdown(headings, rows) + "\n\nIn percent, with 95 % intervals; median: of the rank of the first positive."


def _cell(value: float, interval: metrics.Interval, chance: float) -> str:
    low, high = interval
    return f"{value:.1%} [{low:.1%}, {high:.1%}] ({chance:.2%})".replace("%", "")

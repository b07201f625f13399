"""Retrieval scores of a model, text to audio and audio to text, in full galleries, beside chance."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

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
from benchmarks.report.query_results import QueryResult, write_clips, write_queries
from benchmarks.report.run_facts import contamination_remark, run_facts
from benchmarks.tasks.quality.with_index import index_table, score_index
from clara_search.metrics.intervals import Interval
from clara_search.metrics.retrieval import MAP_CUTOFFS, RULES, average_precision_at_k, first_ranks, hits_at_k
from clara_search.models.base import Embeddings
from clara_search.models.registry import load_encoder
from clara_search.retrieval.ann.registry import BACKENDS
from trainer.evaluation.retrieval import KS, Captioned, Rankings, Scores, embed_texts, rank_pairs

RESAMPLES, SEED = 1000, 0
_SHOWN = 10
"""Worst queries whose recordings are kept."""

_DRAWN_PAIRS = 1_000_000
_BINS = 80


@click.command()
@data_option
@model_option
@split_option("test")
@where_option
@missing_option
@click.option("--index", "backend", type=click.Choice(list(BACKENDS)), help="Search with this ANN index, too.")
@out_option
def retrieval(
    data: str,
    model: str,
    split: str,
    where: tuple[str, ...],
    allow_missing: bool,
    backend: str | None,
    out: Path | None,
) -> None:
    """Score retrieval of recordings by texts, and the reverse.

    Prints recall@1, @5 and @10, mAP@10 and mAP@16. Every caption is a query. Those that differ only in case and
    punctuation are one, and all recordings that have it are right; of a recording with several captions any is right
    for recall@k, and all count for mAP@k. Recordings of equal content are one recording. Ties count as errors. With
    --out the result of each query, and the recordings of the worst ones, are written beside the JSON.
    """
    started = time.perf_counter()
    encoder = load_encoder(model)
    problems: list[str] = []
    clips = embed_examples(encoder, select(data, split, where, problems))
    failures = [*problems, *clips.failures]
    require_complete(failures, allow_missing)
    captions = Captioned.of(clips.examples, clips.hashes)
    texts = embed_texts(encoder, captions.texts, captions.languages)
    embedded = time.perf_counter()
    rankings = rank_pairs(captions, clips.examples, texts, clips.vectors)
    scores = {
        name: {direction: ranking.scores(RESAMPLES, SEED) for direction, ranking in directions.items()}
        for name, directions in rankings.items()
    }
    result = {
        **run_facts("retrieval", encoder, model, data, clips),
        "split": split,
        "where": list(where),
        **counts(clips),
        "complete": not failures,
        "failures": failures,
        "prompts": "captions as they are",
        "rules": RULES,
        "num_resamples": RESAMPLES,
        "seed": SEED,
        "scores": {
            name: {direction: x.as_dict() for direction, x in by_direction.items()}
            for name, by_direction in scores.items()
        },
        "cosines": distribution(captions, texts, clips.vectors),
        "seconds": {"embedding": embedded - started, "scoring": time.perf_counter() - embedded},
    }
    run = Run(captions, clips, texts)
    shown = table(scores) + remarks(result)
    if backend is not None:
        with_index = {
            direction: score_index(backend, *run.pairs(ranking, direction), exact_hits(ranking))
            for direction, ranking in rankings["all"].items()
        }
        result["index"] = {"backend": backend, "by_effort": with_index}
        shown += f"\n\n{index_table(backend, with_index)}\n\nExact search less the index, query by query."
    publish(result, shown, out)
    if out is not None:
        write_queries(out, run.results(rankings))
        write_clips(out, [*run.worst(rankings["all"]["text_to_audio"])])


@dataclass(frozen=True)
class Run:
    """What the results of queries are told with: captions, recordings, and the unit vectors of texts (texts, dim)."""

    captions: Captioned
    clips: Embedded
    texts: Embeddings

    def pairs(self, ranking: Rankings, direction: str) -> tuple[Embeddings, Embeddings, list[list[int]]]:
        """Return the vectors of a ranking's queries and of its gallery, and the positives of each query."""
        audio = self.clips.vectors
        if direction == "text_to_audio":
            relevant = self.captions.recordings_of(ranking.queries, ranking.gallery)
            return self.texts[ranking.queries], audio[ranking.gallery], relevant
        return (
            audio[ranking.queries],
            self.texts[ranking.gallery],
            self.captions.positions_of(ranking.queries, ranking.gallery),
        )

    def results(self, rankings: dict[str, dict[str, Rankings]]) -> Iterator[QueryResult]:
        """Yield the result of each query."""
        keys = [f"{x.key} {content[:8]}" for x, content in zip(self.clips.examples, self.clips.hashes, strict=True)]
        for name, directions in rankings.items():
            for direction, ranking in directions.items():
                queries = self.captions.texts if direction == "text_to_audio" else keys
                ranks = first_ranks(ranking.ranks)
                columns = {f"R@{k}": (ranks <= k).astype(float) for k in KS}
                columns |= {f"mAP@{k}": average_precision_at_k(ranking.ranks, k) for k in MAP_CUTOFFS}
                for row, query in enumerate(ranking.queries):
                    measures = {measure: round(float(column[row]), 9) for measure, column in columns.items()}
                    group = f"{name}, {direction.replace('_', ' ')}"
                    yield QueryResult(group, queries[query], measures, int(ranks[row]))

    def worst(self, ranking: Rankings) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
        """Yield the texts that find their recordings last, each with the right recording and what is found first."""
        ranks, examples = first_ranks(ranking.ranks), self.clips.examples
        for row in np.argsort(-ranks, kind="stable")[:_SHOWN].tolist():
            text = ranking.queries[row]
            if ranks[row] == 1:
                return
            cosines = self.clips.vectors @ self.texts[text]
            owners = [number for number in ranking.gallery if text in self.captions.captions[number]]
            right, first = max(owners, key=lambda number: cosines[number]), int(cosines.argmax())
            titles = f"right, rank {ranks[row]}: {examples[right].key}", f"found first: {examples[first].text}"
            yield self.captions.texts[text], [*zip(titles, (examples[right], examples[first]), strict=True)]


def exact_hits(ranking: Rankings) -> dict[int, npt.NDArray[np.float64]]:
    """Return by k whether exact search finds a positive of each query among the first k."""
    return {k: hits_at_k(ranking.ranks, k) for k in KS}


def distribution(captions: Captioned, texts: Embeddings, audio: Embeddings) -> dict[str, list[float]]:
    """Return histograms of the cosines of texts and their recordings, and of texts and others, as shares of a bin.

    Args:
        captions: which recordings have which texts.
        texts: unit vectors, shape (texts, dim).
        audio: unit vectors, shape (n, dim); of all pairs with `texts` a sample is drawn.
    """
    pairs = np.array([(text, number) for number, own in enumerate(captions.captions) for text in own])
    generator = np.random.default_rng(SEED)
    size = min(_DRAWN_PAIRS, len(texts) * len(audio))
    drawn = np.stack([generator.integers(0, len(vectors), size) for vectors in (texts, audio)], axis=1)
    known = pairs @ (len(audio), 1)
    drawn = drawn[~np.isin(drawn @ (len(audio), 1), known)]
    edges = np.linspace(-1.0, 1.0, _BINS + 1)
    shares = {}
    for name, chosen in (("matches", pairs), ("others", drawn)):
        counted = np.zeros(_BINS)
        for start in range(0, len(chosen), 1 << 16):
            rows, numbers = chosen[start : start + (1 << 16)].T
            cosines = np.einsum("pd,pd->p", texts[rows], audio[numbers]).clip(-1.0, 1.0)
            counted += np.histogram(cosines, edges)[0]
        shares[name] = (counted / max(counted.sum(), 1)).tolist()
    return {"edges": edges.tolist(), **shares}


def counts(clips: Embedded) -> dict[str, Any]:
    """Return what was scored: numbers of captions, different captions and copies, and who split them."""
    examples = clips.examples
    declared = Counter("the data" if example.split else "hash of the texts" for example in examples)
    return {
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
        contamination_remark(result["contamination"]),
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

"""The time and memory of scoring retrieval in a large gallery, compared with the matrix product alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

from benchmarks.memory import memory_mib, reset_peak
from benchmarks.report import markdown, out_option, publish
from clara_search.metrics.retrieval import score_relevant
from clara_search.models.base import Embeddings

_BLOCK = (1024, 4096)
_NOISE = 5.5
"""Length of the noise that tells a caption from its clip, whose length is 1: some captions are then not found."""


@click.command()
@click.option("--captions", type=click.IntRange(min=5), default=100_000, show_default=True, help="Five a clip.")
@click.option("--dim", type=click.IntRange(min=1), default=512, show_default=True, help="Dimensions of a vector.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Rounds; medians are given.")
@click.option("--seed", type=int, default=0, show_default=True)
@out_option
def ranking(captions: int, dim: int, rounds: int, seed: int, out: Path | None) -> None:
    """Time the scores of clips with five captions each in both directions, beside the matrix product alone.

    Scores are recall@k, mAP@k and their bootstrap intervals in the whole gallery. The product is computed in blocks,
    into memory that is already there, and thrown away; it takes turns with scoring.
    """
    clips, texts = clips_and_captions(captions // 5, dim, seed)
    own = np.arange(len(texts)) // 5
    to_audio = [[clip] for clip in own.tolist()]
    to_text = [range(5 * clip, 5 * clip + 5) for clip in range(len(clips))]
    reset_peak()
    before = memory_mib("VmRSS")
    seconds: dict[str, list[float]] = {"text to audio": [], "audio to text": [], "product": []}
    for _ in range(rounds):
        seconds["product"].append(seconds_of(lambda: multiply(texts, clips)))
        seconds["text to audio"].append(seconds_of(lambda: score_relevant(texts, clips, to_audio)))
        seconds["audio to text"].append(seconds_of(lambda: score_relevant(clips, texts, to_text)))
    added_mib = memory_mib("VmHWM") - before
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    ratios = {name: medians[name] / medians["product"] for name in ("text to audio", "audio to text")}
    recall = score_relevant(texts, clips, to_audio, num_resamples=0).recall[1]
    rows = [
        [name, f"{len(texts):,} x {len(clips):,}", f"{value:.1f}", f"{ratios.get(name, 1.0):.2f}"]
        for name, value in medians.items()
    ]
    result = {
        "benchmark": "ranking",
        "captions": len(texts),
        "clips": len(clips),
        "dim": dim,
        "seed": seed,
        "recall_at_1": recall,
        "seconds": seconds,
        "ratios": ratios,
        "added_mib": added_mib,
        "vectors_mib": (texts.nbytes + clips.nbytes) / 2**20,
    }
    publish(result, markdown(["measured", "captions x clips", "median, s", "of the product"], rows), out)
    click.echo(f"{added_mib} MiB beyond the vectors, {result['vectors_mib']:.0f} MiB; R@1 {recall:.2f}.")


def clips_and_captions(clips: int, dim: int, seed: int) -> tuple[Embeddings, Embeddings]:
    """Return random unit vectors of clips, shape (clips, dim), and of five captions of each, near them."""
    generator = np.random.default_rng(seed)
    audio = unit(generator.standard_normal((clips, dim), dtype=np.float32))
    noise = generator.standard_normal((5 * clips, dim), dtype=np.float32)
    noise *= _NOISE / np.sqrt(dim)
    noise += np.repeat(audio, 5, axis=0)
    return audio, unit(noise)


def unit(vectors: Embeddings) -> Embeddings:
    """Scale `vectors` (n, dim) to unit norm, in their place, and return them."""
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def multiply(queries: Embeddings, gallery: Embeddings) -> None:
    """Compute the cosines of `queries` (q, dim) and `gallery` (n, dim) block by block, and keep none."""
    block_queries, block_items = _BLOCK
    buffer = np.empty(block_queries * block_items, np.float32)
    for start in range(0, len(queries), block_queries):
        rows = queries[start : start + block_queries]
        for first in range(0, len(gallery), block_items):
            items = gallery[first : first + block_items]
            np.matmul(rows, items.T, out=buffer[: len(rows) * len(items)].reshape(len(rows), len(items)))


def seconds_of(call: Callable[[], object]) -> float:
    """Return the seconds that `call` takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started

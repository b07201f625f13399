"""The bundled model as it is shipped: its scores and speed in each precision, compared with the recorded ones."""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from benchmarks.examples import Embedded, data_option, embed_examples, select
from benchmarks.report import markdown, out_option, publish
from clara_search.datasets.example import Example
from clara_search.errors import FormatError
from clara_search.models.base import Encoder
from clara_search.models.registry import DEFAULT_MODEL, load_encoder
from trainer.evaluation.retrieval import score_pairs

RECORD = Path(__file__).parents[2] / "results" / DEFAULT_MODEL / "check.json"
"""The fingerprint of the shipped weights, and their scores."""

CLIPS = 400
"""Number of held-out clips of the check, those whose keys have the lowest hashes."""

TOLERANCE = 0.01
PRECISIONS = ("fp32", "bf16", "int8")
_TIMED_CALLS = 20


@click.command("bundled")
@data_option
@click.option("--record", is_flag=True, help="Record these scores as those of the weights.")
@out_option
def bundled(data: str, record: bool, out: Path | None) -> None:
    """Check the bundled model against its recorded scores.

    Prints scores on 400 held-out clips and the speed in each precision. Fails if the weights are others, or if a score
    in fp32 differs from the recorded one by more than 0.01.
    """
    results = [measure(precision, data) for precision in PRECISIONS]
    fp32 = results[0]
    rows = []
    for result in results:
        cosine = float((result["vectors"] * fp32["vectors"]).sum(axis=1).min())
        scores = [f"{value:.3f}" for value in result["scores"].values()]
        times = [f"{result['clip_ms']:.1f}", f"{result['text_ms']:.1f}"]
        rows.append([result["precision"], *scores, f"{cosine:.5f}", *times])
    headings = ["precision", *fp32["scores"], "lowest cosine to fp32", "10 s clip, ms", "query, ms"]
    measured = {"fingerprint": fp32["fingerprint"], "clips": CLIPS, "scores": fp32["scores"]}
    if record:
        RECORD.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    published = [{key: value for key, value in result.items() if key != "vectors"} for result in results]
    publish(
        {"benchmark": "bundled", "model": DEFAULT_MODEL, "data": data, "results": published},
        markdown(headings, rows),
        out,
    )
    click.echo("Times are medians on one core.")
    if differs := differences(measured, json.loads(RECORD.read_text(encoding="utf-8"))):
        raise FormatError(f"{DEFAULT_MODEL} differs from {RECORD.name}: {'; '.join(differs)}")


def measure(precision: str, data: str) -> dict[str, Any]:
    """Return the scores, vectors and times of the bundled model in a precision."""
    encoder = load_encoder(DEFAULT_MODEL, "cpu", precision)
    embedded = embed_examples(encoder, check_clips(list(select(data, "test", ()))))
    if embedded.failures:
        raise FormatError(f"{data}: {embedded.failures[0]}")
    clip = np.random.default_rng(0).standard_normal(10 * encoder.sample_rate).astype(np.float32) * 0.1
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        clip_ms = milliseconds(lambda: encoder.encode_audio([clip]))
        text_ms = milliseconds(lambda: encoder.encode_text(["a dog barks in the rain"]))
    finally:
        torch.set_num_threads(threads)
    return {
        "precision": precision,
        "fingerprint": encoder.fingerprint,
        "scores": score_clips(encoder, embedded),
        "vectors": embedded.vectors,
        "clip_ms": clip_ms,
        "text_ms": text_ms,
    }


def check_clips(examples: Sequence[Example]) -> list[Example]:
    """Return the clips of the check, whatever the order of `examples`."""
    by_hash = sorted(examples, key=lambda example: hashlib.sha256(example.key.encode()).digest())
    return by_hash[:CLIPS]


def score_clips(encoder: Encoder, clips: Embedded) -> dict[str, float]:
    """Return R@10 and mAP@10 among the clips, in both directions."""
    directions = score_pairs(encoder, clips.examples, clips.vectors, clips.hashes)["all"]
    return {
        f"{name}, {direction.replace('_', ' ')}": value
        for direction, scores in directions.items()
        for name, value in (("R@10", scores.recall[10]), ("mAP@10", scores.map10))
    }


def differences(measured: dict[str, Any], recorded: dict[str, Any]) -> list[str]:
    """Return the differences between measured and recorded figures, of scores those above `TOLERANCE`."""
    differs = []
    if measured["fingerprint"] != recorded["fingerprint"]:
        differs.append(f"fingerprint {measured['fingerprint'][:12]}, recorded {recorded['fingerprint'][:12]}")
    differs += [
        f"{name} is {measured['scores'][name]:.3f}, recorded {value:.3f}"
        for name, value in recorded["scores"].items()
        if abs(measured["scores"][name] - value) > TOLERANCE
    ]
    return differs


def milliseconds(call: Callable[[], object]) -> float:
    """Return the median time of a call, after a few calls to warm up."""
    for _ in range(3):
        call()
    times = []
    for _ in range(_TIMED_CALLS):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000

"""The bundled model as it is shipped: does it still score what its card says, in which precision, and how fast."""

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

from benchmarks.examples import data_option, embed_examples, select
from benchmarks.report import markdown, out_option, publish
from clara_search.datasets.example import Example
from clara_search.errors import FormatError
from clara_search.models.base import Embeddings, Encoder
from clara_search.models.registry import DEFAULT_MODEL, load_encoder
from trainer.evaluation.retrieval import score_pairs

RECORD = Path(__file__).parent.parent / "results" / DEFAULT_MODEL / "check.json"
"""What the shipped weights scored when they were shipped, and their fingerprint."""

CLIPS = 400
"""Held-out clips of the check: those whose keys have the lowest hashes."""

TOLERANCE = 0.01
PRECISIONS = ("fp32", "bf16", "int8")
_TIMED = 20


@click.command("bundled")
@data_option
@click.option("--record", is_flag=True, help="Keep what is measured as what the weights score.")
@out_option
def bundled(data: str, record: bool, out: Path | None) -> None:
    """Score the bundled model on a few held-out clips in each precision, beside what it scored when it was shipped.

    Fails where a score in fp32 is further than 0.01 from that, or the weights are others.
    """
    results = [measure(precision, data) for precision in PRECISIONS]
    exact = results[0]
    lowest = [float((one["vectors"] * exact["vectors"]).sum(axis=1).min()) for one in results]
    rows = []
    for one, cosine in zip(results, lowest, strict=True):
        scores = [f"{value:.3f}" for value in one["scores"].values()]
        rows.append([one["precision"], *scores, f"{cosine:.5f}", f"{one['clip_ms']:.1f}", f"{one['text_ms']:.1f}"])
    headings = ["precision", *exact["scores"], "lowest cosine to fp32", "10 s clip, ms", "query, ms"]
    found = {"fingerprint": exact["fingerprint"], "clips": CLIPS, "scores": exact["scores"]}
    if record:
        RECORD.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    published = [{key: value for key, value in one.items() if key != "vectors"} for one in results]
    publish(
        {"benchmark": "bundled", "model": DEFAULT_MODEL, "data": data, "results": published},
        markdown(headings, rows),
        out,
    )
    click.echo("Times are medians on one core.")
    if differs := differences(found, json.loads(RECORD.read_text(encoding="utf-8"))):
        raise FormatError(f"{DEFAULT_MODEL} is not what was recorded in {RECORD.name}: {'; '.join(differs)}")


def measure(precision: str, data: str) -> dict[str, Any]:
    """Return scores, vectors and times of the bundled model in a precision, on the clips of the check."""
    encoder = load_encoder(DEFAULT_MODEL, "cpu", precision)
    examples, audio, failures = embed_examples(encoder, chosen(list(select(data, "test", ()))))
    if failures:
        raise FormatError(f"{data}: {failures[0]}")
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
        "scores": scores_of(encoder, examples, audio),
        "vectors": audio,
        "clip_ms": clip_ms,
        "text_ms": text_ms,
    }


def chosen(examples: Sequence[Example]) -> list[Example]:
    """Return the examples of the check, the same whatever order they come in."""
    by_hash = sorted(examples, key=lambda example: hashlib.sha256(example.key.encode()).digest())
    return by_hash[:CLIPS]


def scores_of(encoder: Encoder, examples: Sequence[Example], audio: Embeddings) -> dict[str, float]:
    """Return R@10 and mAP@10 among the examples, both ways."""
    both = score_pairs(encoder, examples, audio)["all"]
    return {
        f"{name}, {way.replace('_', ' ')}": value
        for way, one in both.items()
        for name, value in (("R@10", one.recall[10]), ("mAP@10", one.map10))
    }


def differences(found: dict[str, Any], recorded: dict[str, Any]) -> list[str]:
    """Return what of `found` is not what was recorded, to `TOLERANCE`."""
    differs = []
    if found["fingerprint"] != recorded["fingerprint"]:
        differs.append(f"fingerprint {found['fingerprint'][:12]}, recorded {recorded['fingerprint'][:12]}")
    differs += [
        f"{name} is {found['scores'][name]:.3f}, recorded {value:.3f}"
        for name, value in recorded["scores"].items()
        if abs(found["scores"][name] - value) > TOLERANCE
    ]
    return differs


def milliseconds(call: Callable[[], object]) -> float:
    """Return the median time of a call, after a few that are not timed."""
    for _ in range(3):
        call()
    times = []
    for _ in range(_TIMED):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000

"""What a run depends on, to be written beside its scores: model, data, windows, precision, and what was trained on."""

from __future__ import annotations

import hashlib
from typing import Any

from benchmarks.examples import Embedded
from clara_search.audio.windows import DEFAULT_HOP_S, DEFAULT_WINDOW_S
from clara_search.models.base import Encoder
from clara_search.models.training_sources import training_sources
from trainer.evaluation.contamination import contamination


def run_facts(benchmark: str, encoder: Encoder, model: str, data: str, clips: Embedded) -> dict[str, Any]:
    """Return the facts that every run of a benchmark of quality states.

    Args:
        benchmark: its name.
        encoder: the model as it was loaded.
        model: what the user called it.
        data: what the user called the data.
        clips: the recordings that were scored.

    Raises:
        UnknownModel: there is no card of the model.
    """
    return {
        "benchmark": benchmark,
        "model": encoder.name,
        "fingerprint": encoder.fingerprint,
        "encoder": {
            "dim": encoder.dim,
            "sample_rate": encoder.sample_rate,
            "precision": getattr(encoder, "precision", "as loaded"),
        },
        "windows": {"window_s": DEFAULT_WINDOW_S, "hop_s": DEFAULT_HOP_S, "of a recording": "mean of its windows"},
        "data": data,
        "data_fingerprint": data_fingerprint(clips),
        "clips": len(clips.examples),
        "contamination": contamination([example.source for example in clips.examples], training_sources(model)),
    }


def data_fingerprint(clips: Embedded) -> str:
    """Return the SHA-256 of contents, captions and labels of the recordings, whatever their order and names."""
    lines = sorted(
        "\t".join([content, example.label or "", *sorted((example.text, *example.alternatives))])
        for content, example in zip(clips.hashes, clips.examples, strict=True)
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def contamination_remark(facts: dict[str, Any]) -> str:
    """Return what a reader has to know of `contamination`."""
    if facts["trained_on"]:
        sources = ", ".join(facts["trained_on"])
        share = "" if facts["share"] is None else f" ({facts['share']:.0%} of the clips)"
        return f"CONTAMINATED: the model's card lists among its training sources {sources}{share}"
    if facts["share"] is None:
        return "contamination unknown: " + (
            "the card lists no training sources" if facts["declared"] is None else "not all clips name their source"
        )
    return "no clip is of a training source"

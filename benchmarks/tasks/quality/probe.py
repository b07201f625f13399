"""Probes of a model's vectors, compared with random weights and log-mel statistics, on disjoint speakers."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from benchmarks.examples import model_option
from benchmarks.report import markdown, out_option, publish
from clara_search.audio.mel import MelConfig, log_mel_statistics
from clara_search.audio.waveform import Waveform
from clara_search.datasets.labelled import Clip, read_clips
from clara_search.errors import QueryError
from clara_search.models.base import Embeddings
from clara_search.models.clara.checkpoint import load_model, save_model
from clara_search.models.clara.towers import Clara
from clara_search.models.registry import find_model, model_type
from clara_search.models.training_sources import training_sources
from clara_search.text.normalize import normalize_text
from trainer.embeddings.cache import EncoderSpec, describe_encoder
from trainer.probing.experiment import (
    LabelledSet,
    ProbeConfig,
    build_labelled_set,
    cross_validate,
    fit_frozen,
    head_shape,
)
from trainer.probing.report import build_report
from trainer.probing.sgd import FitConfig

LABEL_KINDS = ("digit", "letter", "number", "day", "month", "tone", "animal", "drum", "family", "surface")
"""Prefixes of labels such as "digit:7"; each is a classification task of its own."""

STATISTICS, RANDOM = "log-mel statistics", "random weights"


@dataclass(frozen=True)
class LogMelStatistics:
    """A baseline encoder: mean and standard deviation of each log-mel band over time."""

    config: MelConfig
    name: str = STATISTICS

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the configuration."""
        return hashlib.sha256(repr(self).encode()).hexdigest()

    @property
    def dim(self) -> int:
        """Length of a vector: two numbers for each band."""
        return 2 * self.config.n_mels

    @property
    def sample_rate(self) -> int:
        """Hz that `encode_audio` expects."""
        return self.config.sample_rate

    def encode_audio(self, waveforms: Sequence[Waveform]) -> Embeddings:
        """Return the statistics, shape (n, dim); they are not of unit norm."""
        return np.stack([log_mel_statistics(waveform, self.config) for waveform in waveforms])

    def encode_text(self, texts: Sequence[str], language: str | None = None) -> Embeddings:
        """Texts have no log-mel: raises QueryError."""
        raise QueryError("log-mel statistics know no texts")


@click.command("probe")
@click.option("--data", required=True, metavar="GLOB", help='Shards or manifests whose `label` is "KIND:CLASS".')
@model_option
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    default=LABEL_KINDS,
    help="Kind of label to probe; repeatable.  [default: ten kinds]",
)
@click.option("--head", type=click.Choice(["linear", "mlp", "knn", "logistic"]), default="logistic", show_default=True)
@click.option("--cache", type=click.Path(path_type=Path), default=Path("runs/cache/vectors"), show_default=True)
@out_option
def probe(data: str, model: str, kinds: tuple[str, ...], head: str, cache: Path, out: Path | None) -> None:
    """Score heads over a model's vectors, and over two baselines.

    The baselines are the same model with random weights, and log-mel statistics. Each kind of label is cross-validated
    in folds of disjoint speakers (or sources, if speakers are missing; or texts, if there is a single speaker). Classes
    of fewer than three speakers are left out: they cannot be in the training, validation and test split at once.
    """
    logging.getLogger("trainer").setLevel(logging.WARNING)
    clips = read_clips(data)
    fit = FitConfig(head=head)  # type: ignore[arg-type]  # click checked it
    results: dict[str, Any] = {}
    with _random_weights(model) as random_folder:
        candidates = {name: x for name, x in _candidates(model, random_folder).items() if x is not None}
        for kind in kinds:
            results[kind] = _probe_kind(kind, clips, candidates, fit, data, model, cache)
    result = {"benchmark": "probe", "model": model, "data": data, "head": head, "kinds": results}
    publish(result, report(results, model), out)


def _probe_kind(
    kind: str,
    clips: Sequence[Clip],
    candidates: dict[str, EncoderSpec],
    fit: FitConfig,
    data: str,
    model: str,
    cache: Path,
) -> dict[str, Any]:
    """Return the scores of each candidate for a kind of label, with facts about the clips."""
    clips = drop_rare_classes(with_groups(of_kind(clips, kind)), kind)
    scores: dict[str, Any] = {}
    for name, candidate in candidates.items():
        # Statistics are taken of whole recordings: the mean over windows is for vectors of unit norm.
        window_s = 3600.0 if name == STATISTICS else 10.0
        config = ProbeConfig(data, (kind,), fit=fit, window_s=window_s, hop_s=window_s / 2)
        labelled: LabelledSet = build_labelled_set(config, clips, candidate, cache)
        shape = head_shape(config, labelled.columns, candidate.dim, name, "")
        result = cross_validate(config, labelled, shape, lambda row: None, fit_frozen, final_head=False)
        facts = build_report(labelled, result, training_sources(model) if name == model else ())
        scores[name] = facts["labels"][kind]
    return {
        "groups": len({clip.value("speaker") for clip in labelled.clips}),
        "grouped_by": "text" if clips[0].value("speaker") == _text_group(clips[0]) else "speaker or source",
        "folds": facts["clips"]["folds"],
        "contamination": facts["contamination"],
        "scores": scores,
    }


def of_kind(clips: Sequence[Clip], kind: str) -> list[Clip]:
    """Return the clips whose label is "KIND:CLASS", with CLASS in a column KIND. Raises QueryError for none."""
    matching = []
    for clip in clips:
        prefix, colon, name = (clip.value("label") or "").partition(":")
        if colon and name and prefix == kind:
            matching.append(replace(clip, columns={**clip.columns, kind: name}))
    if not matching:
        labels = {clip.value("label") or "" for clip in clips}
        kinds = sorted({label.partition(":")[0] for label in labels if ":" in label})
        raise QueryError(f"no label begins with '{kind}:'; the data has the kinds {', '.join(kinds[:10]) or '(none)'}")
    return matching


def with_groups(clips: Sequence[Clip]) -> list[Clip]:
    """Return `clips` without declared splits, each with a group as its speaker: its speaker, source or text."""
    owners = [clip.value("speaker") or clip.source for clip in clips]
    if len(set(owners)) == 1:
        owners = [_text_group(clip) for clip in clips]
    return [
        replace(clip, columns={**clip.columns, "speaker": owner, "split": None, "fold": None})
        for clip, owner in zip(clips, owners, strict=True)
    ]


def drop_rare_classes(clips: Sequence[Clip], kind: str) -> list[Clip]:
    """Return the clips of classes that three groups have, or all groups if there are fewer than three.

    Raises QueryError if no class is left.
    """
    groups: dict[str, set[str]] = {}
    for clip in clips:
        groups.setdefault(str(clip.value(kind)), set()).add(str(clip.value("speaker")))
    needed = min(3, len(set().union(*groups.values())))
    common = [clip for clip in clips if len(groups[str(clip.value(kind))]) >= needed]
    if not common:
        raise QueryError(f"no class of {kind!r} comes from {needed} speakers, kits or sources")
    return common


def _text_group(clip: Clip) -> str:
    return f"text {normalize_text(clip.text)}"


def _candidates(model: str, random_folder: Path | None) -> dict[str, EncoderSpec | None]:
    """Return the encoders to compare, in order; random weights only for a CLARA model."""
    is_clara = model_type(model) == "clara"
    mel = load_model(find_model(model))[0].config.mel if is_clara else MelConfig(sample_rate=16000)
    plain = LogMelStatistics(mel)
    return {
        STATISTICS: EncoderSpec(plain.name, plain.fingerprint, plain.dim, lambda: plain),
        RANDOM: describe_encoder(str(random_folder)) if random_folder else None,
        model: describe_encoder(model),
    }


@contextmanager
def _random_weights(model: str) -> Iterator[Path | None]:
    """Yield a folder with the architecture of `model` and random weights; None if it is no CLARA model."""
    if model_type(model) != "clara":
        yield None
        return
    trained, tokenizer = load_model(find_model(model))
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as random_folder:
        save_model(Path(random_folder), Clara(trained.config), tokenizer, "", torch.float32)
        yield Path(random_folder)


def report(results: dict[str, Any], model: str) -> str:
    """Return the scores as two Markdown tables, accuracy and UAR."""
    parts = [
        _table(results, model, "accuracy", "accuracy, in percent [95 % interval]"),
        _table(results, model, "uar", "unweighted average recall, in percent [95 % interval]"),
    ]
    marked = [facts["contamination"] for facts in results.values() if facts["contamination"]["trained_on"]]
    if marked:
        sources = sorted({source for contamination in marked for source in contamination["trained_on"]})
        parts.append(
            f"* {model} was pretrained on recordings of these sources (with their texts, not with these labels): "
            f"{', '.join(sources)}. Marked scores are not of unseen recordings."
        )
    return "\n\n".join(parts)


def _table(results: dict[str, Any], model: str, measure: str, title: str) -> str:
    rows = []
    for kind, facts in results.items():
        scores = facts["scores"]
        mark = "*" if facts["contamination"]["trained_on"] else ""
        shared = scores[model]
        cells = [kind, str(shared["n"]), str(len(shared["classes"])), str(facts["groups"])]
        cells.append(f"{shared['majority'][measure]:.1%}")
        for name in scores:
            low, high = scores[name]["scores"][measure]["interval"]
            value = scores[name]["scores"][measure]["value"]
            cells.append(f"{value:.1%} [{low:.1%}, {high:.1%}]{mark if name == model else ''}")
        rows.append([cell.replace("%", "") for cell in cells])
    names = list(next(iter(results.values()))["scores"])
    return f"{title}\n\n" + markdown(["label", "clips", "classes", "groups", "majority", *names], rows)

"""Where a sound is in five minutes: recordings made of noise or speech, with one sound effect in each."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import soundfile

from benchmarks.demo.corpus import Corpus, Recording, prepare
from benchmarks.demo.run import FOLDER
from benchmarks.examples import model_option
from benchmarks.report import markdown, out_option, publish
from clara_search.audio.decode import load_audio
from clara_search.audio.waveform import Waveform
from clara_search.models.base import Encoder
from clara_search.models.registry import load_encoder
from clara_search.retrieval.index import Index
from clara_search.store.database import Database

EVENTS = (
    "Sheep",
    "Cow",
    "Explosion",
    "Ship horn",
    "Factory Whistle",
    "Jackhammer",
    "Modern car horn",
    "Lion roar",
    "Helicopter",
    "Chainsaw",
    "Applause",
    "Horse",
)
SURROUNDINGS = ("white noise", "pink noise", "speech")
LONGEST_S = 4.0


@click.command()
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=FOLDER,
    show_default=True,
    help="Keeps the demo's corpus.",
)
@model_option
@click.option("--minutes", type=click.FloatRange(min=1), default=5.0, show_default=True, help="Length of a recording.")
@click.option("--seed", type=int, default=0, show_default=True)
@out_option
def localisation(folder: Path, model: str, minutes: float, seed: int, out: Path | None) -> None:
    """Measure the distance of `best_s` from the middle of a sound effect hidden in a long recording.

    Each recording is asked for by the caption of its effect, before and after the second look.
    """
    encoder = load_encoder(model)
    corpus = next(some for some in prepare(folder, click.echo) if some.recordings[0].source != "espeak")
    rng = np.random.default_rng(seed)
    errors: dict[str, dict[str, list[float]]] = {}
    seconds = []
    with tempfile.TemporaryDirectory() as temporary:
        for place, surrounding in enumerate(SURROUNDINGS):
            errors[surrounding] = {"windows": [], "second look": []}
            for event in EVENTS:
                path = Path(temporary) / f"{place}-{event}.flac"
                middle_s = make_recording(path, corpus, event, surrounding, minutes * 60, encoder, rng)
                index = index_one(path, Path(temporary) / f"{place}-{event}-db", encoder)
                hits = index.search(event.lower(), language="en", k=1)
                started = time.perf_counter()
                located = index.locate(hits)
                seconds.append(time.perf_counter() - started)
                for name, answer in (("windows", hits), ("second look", located)):
                    errors[surrounding][name].append(abs((answer[0].best_s or 0.0) - middle_s))
    summary = {
        surrounding: {name: _quantiles(values) for name, values in by_look.items()}
        for surrounding, by_look in errors.items()
    }
    everything = [error for by_look in errors.values() for error in by_look["second look"]]
    result: dict[str, Any] = {
        "benchmark": "localisation",
        "model": model,
        "minutes": minutes,
        "seed": seed,
        "recordings": len(everything),
        "median_error_s": float(np.median(everything)),
        "errors_s": summary,
        "seconds_a_hit": float(np.median(seconds)),
    }
    rows = [
        [surrounding, name, *(f"{value:.2f}" for value in quantiles.values())]
        for surrounding, by_look in summary.items()
        for name, quantiles in by_look.items()
    ]
    publish(result, markdown(["in", "by", "median s", "p90 s"], rows), out)


def make_recording(
    path: Path,
    corpus: Corpus,
    event: str,
    surrounding: str,
    duration_s: float,
    encoder: Encoder,
    rng: np.random.Generator,
) -> float:
    """Write a long recording with an effect in it to `path`, and return the second of the effect's middle."""
    rate = encoder.sample_rate
    effect = _load(corpus, next(r for r in corpus.recordings if r.text == event), rate)[: round(LONGEST_S * rate)]
    waveform = _surrounding(surrounding, corpus, round(duration_s * rate), rate, rng)
    start = int(rng.integers(0, len(waveform) - len(effect)))
    waveform[start : start + len(effect)] += 0.6 * effect / max(float(np.abs(effect).max()), 1e-6)
    soundfile.write(path, np.clip(waveform, -1, 1), rate)
    return (start + len(effect) / 2) / rate


def index_one(path: Path, folder: Path, encoder: Encoder) -> Index:
    """Return an index of one recording."""
    from indexer import pipeline

    database = Database(folder, create=True)
    pipeline.index([path], database, encoder)
    return Index(database.table(), encoder=encoder)


def _surrounding(name: str, corpus: Corpus, samples: int, rate: int, rng: np.random.Generator) -> Waveform:
    if name == "white noise":
        return (0.005 * rng.normal(size=samples)).astype(np.float32)
    if name == "pink noise":
        spectrum = np.fft.rfft(rng.normal(size=samples))
        spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
        pink = np.fft.irfft(spectrum, samples)
        return np.asarray(0.02 * pink / pink.std(), np.float32)
    speech = [r for r in corpus.recordings if r.category == "speech" and len(r.text) > 40]
    parts: list[Waveform] = []
    while sum(map(len, parts)) < samples:
        pause = np.zeros(rate // 2, dtype=np.float32)
        parts += [0.5 * _load(corpus, speech[int(rng.integers(len(speech)))], rate), pause]
    return np.concatenate(parts)[:samples]


def _load(corpus: Corpus, recording: Recording, rate: int) -> Waveform:
    return load_audio(corpus.folder / recording.path, rate)


def _quantiles(errors: Sequence[float]) -> dict[str, float]:
    return {"median": float(np.median(errors)), "p90": float(np.quantile(errors, 0.9))}

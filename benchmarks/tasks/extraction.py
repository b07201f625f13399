"""The time of a probe before its first epoch: vectors from files, and vectors from the cache."""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
import soundfile

from benchmarks.examples import model_option
from benchmarks.report import markdown, out_option, publish
from benchmarks.stand_ins import BatchRecorder
from clara_search.cpu import core_count
from clara_search.datasets.labelled import Clip, read_clips
from clara_search.datasets.recordings import load_recording
from clara_search.errors import AudioError, QueryError
from trainer.embeddings.cache import EncoderSpec, describe_encoder, embed_clips
from trainer.probing.run import FIRST_EPOCH

_CLIP_S = 0.25
_ROOT = Path(__file__).parent.parent.parent


@click.command("extraction")
@click.option("--data", required=True, metavar="GLOB", help="Shards, manifests or folders of recordings.")
@model_option
@click.option("--clips", type=click.IntRange(min=1), default=1024, show_default=True, help="Clips to embed.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Timings of each, in turn.")
@click.option(
    "--cached",
    type=click.IntRange(min=0),
    default=10_000,
    show_default=True,
    help="Clips of the probe that is run twice; 0 leaves it out.",
)
@out_option
def extraction(data: str, model: str, clips: int, rounds: int, cached: int, out: Path | None) -> None:
    """Time the embedding of files for a probe.

    The FLAC files are like those that `prepare` writes, and the cache is empty; the encoder alone is timed on the same
    windows in memory. Then a probe of synthetic clips is run twice as a command, and the time until its first epoch is
    measured: in the second run all vectors are in the cache.
    """
    speed = _speed(read_clips(data), describe_encoder(model), clips, rounds)
    medians = speed["medians"]
    rows = [
        [name, f"{seconds:.2f}", f"{speed['clips'] / seconds:.0f}", f"{speed['audio_s'] / seconds:.0f}"]
        for name, seconds in medians.items()
    ]
    paragraphs = [
        markdown(["", "seconds", "clips/s", "seconds of audio per second"], rows),
        f"Extraction reaches {speed['ratio']:.0%} of the encoder's throughput (each round: "
        f"{', '.join(f'{ratio:.0%}' for ratio in speed['ratios'])}); cores: {speed['cores']}.",
    ]
    probes = _probe_twice(cached, model) if cached else None
    if probes is not None:
        first, second = probes["first"], probes["second"]
        paragraphs.append(
            f"A second probe of {cached} clips: manifest and vectors took {second['vectors_s']:.2f} s (the first time "
            f"{first['vectors_s']:.1f} s); its first epoch began {second['first_epoch_s']:.2f} s after the start of "
            "the command, imports included."
        )
    result = {"benchmark": "extraction", "model": model, "data": data, "speed": speed, "probes": probes}
    publish(result, "\n\n".join(paragraphs), out)


def _speed(clips: Sequence[Clip], model: EncoderSpec, count: int, rounds: int) -> dict[str, Any]:
    encoder = model.load()
    ratios: list[float] = []
    seconds: dict[str, list[float]] = {"extraction": [], "encoder alone": []}
    with tempfile.TemporaryDirectory() as folder:
        files = list(islice(write_flac_files(clips, encoder.sample_rate, Path(folder)), count))
        if not files:
            raise QueryError("no recording can be decoded")
        recorder = BatchRecorder(encoder)
        embed_clips(files, replace(model, load=lambda: recorder), Path(folder) / "warm")

        def encode_alone() -> None:
            for batch in recorder.batches:
                encoder.encode_audio(batch)

        for number in range(rounds):
            seconds["extraction"].append(_timed(partial(embed_clips, files, model, Path(folder) / str(number))))
            seconds["encoder alone"].append(_timed(encode_alone))
            ratios.append(seconds["encoder alone"][-1] / seconds["extraction"][-1])
    audio_s = sum(len(waveform) for batch in recorder.batches for waveform in batch) / encoder.sample_rate
    return {
        "clips": len(files),
        "audio_s": audio_s,
        "cores": core_count(),
        "seconds": seconds,
        "medians": {name: float(np.median(times)) for name, times in seconds.items()},
        "ratios": ratios,
        "ratio": float(np.median(ratios)),
    }


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def write_flac_files(clips: Sequence[Clip], rate: int, folder: Path) -> Iterator[Clip]:
    """Write recordings as FLAC files of `rate` Hz to `folder` and yield them; skip those that cannot be decoded."""
    for number, clip in enumerate(clips):
        path = folder / f"{number:06d}.flac"
        try:
            waveform: npt.NDArray[np.float32] = load_recording(clip, rate)
        except AudioError:
            continue
        soundfile.write(path, np.clip(waveform, -1.0, 1.0), rate, subtype="PCM_16")
        yield replace(clip, audio=path)


def _probe_twice(count: int, model: str) -> dict[str, Any]:
    """Probe `count` clips twice; return, for each run, the seconds from its start to its first epoch."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_tones(count, Path(folder))
        runs = {name: _first_epoch(manifest, model, Path(folder)) for name in ("first", "second")}
    return {"clips": count, "clip_s": _CLIP_S, **runs}


def _first_epoch(manifest: Path, model: str, folder: Path) -> dict[str, float]:
    arguments = ["--data", manifest, "--label", "pitch", "--model", model, "--set", "fit.epochs=2"]
    arguments += ["--cache", folder / "cache", "--out", folder / "run"]
    command = [sys.executable, "-m", "trainer", "probe", *map(str, arguments)]
    started = time.perf_counter()
    seconds: dict[str, float] = {}
    lines: list[str] = []
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if FIRST_EPOCH in line:
                seconds["first_epoch_s"] = time.perf_counter() - started
                seconds["vectors_s"] = float(line.partition(FIRST_EPOCH)[2].split()[0])
    if process.returncode or not seconds:
        raise QueryError(f"the probe failed: {lines[-1].strip() if lines else process.returncode}")
    return seconds


def write_tones(count: int, folder: Path) -> Path:
    """Write low and high tones, all different, and return their manifest."""
    manifest, time_s = folder / "manifest.csv", np.arange(int(16000 * _CLIP_S)) / 16000
    with manifest.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "pitch", "split"])
        for number in range(count):
            high = number % 2
            wave = 0.5 * np.sin(2 * np.pi * ((2000 if high else 200) + 0.1 * number) * time_s)
            soundfile.write(folder / f"{number}.flac", wave, 16000, subtype="PCM_16")
            split = ("train", "train", "train", "valid", "test")[number // 2 % 5]
            rows.writerow([f"{number}.flac", "high" if high else "low", split])
    return manifest

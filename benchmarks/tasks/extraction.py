"""What a probe spends before its first epoch: vectors from files, beside the encoder alone, and vectors it knows."""

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
from benchmarks.tasks.indexing import KeepingEncoder
from clara_search.audio.decode import load_audio
from clara_search.cpu import core_count
from clara_search.datasets.labelled import Clip, read_clips
from clara_search.datasets.readers import read_audio_bytes
from clara_search.errors import AudioError, QueryError
from trainer.embeddings.cache import EncoderSpec, describe_encoder, embed_clips
from trainer.probing.run import FIRST_EPOCH

_CLIP_S = 0.25
_ROOT = Path(__file__).parent.parent.parent


@click.command("extraction")
@click.option("--data", required=True, metavar="GLOB", help="Shards, manifests or folders to take recordings from.")
@model_option
@click.option("--clips", type=click.IntRange(min=1), default=1024, show_default=True, help="How many.")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Times each, taken in turn.")
@click.option(
    "--known",
    type=click.IntRange(min=0),
    default=10_000,
    show_default=True,
    help="Clips of the run that has all vectors.",
)
@out_option
def extraction(data: str, model: str, clips: int, rounds: int, known: int, out: Path | None) -> None:
    """Time vectors from FLAC files (as `prepare` writes them) beside the encoder alone, on the same windows in batches.

    The encoder is given waveforms that lie in memory; each extraction begins with an empty cache. Then a probe of KNOWN
    synthetic clips is run twice, each time as a command of its own: how long until its first epoch, once all is known?
    """
    speed = _speed(read_clips(data), describe_encoder(model), clips, rounds)
    medians = speed["medians"]
    rows = [
        [name, f"{seconds:.2f}", f"{speed['clips'] / seconds:.0f}", f"{speed['audio_s'] / seconds:.0f}"]
        for name, seconds in medians.items()
    ]
    said = [
        markdown(["", "seconds", "clips/s", "seconds of audio a second"], rows),
        f"Extraction keeps {speed['ratio']:.0%} of the encoder's throughput (each round: "
        f"{', '.join(f'{ratio:.0%}' for ratio in speed['ratios'])}); cores: {speed['cores']}.",
    ]
    second = _known(known, model) if known else None
    if second is not None:
        first, again = second["first"], second["second"]
        said.append(
            f"A second probe of {known} clips: manifest and vectors took {again['vectors_s']:.2f} s (the first time "
            f"{first['vectors_s']:.1f} s); its first epoch began {again['first_epoch_s']:.2f} s after the command, "
            "imports included."
        )
    result = {"benchmark": "extraction", "model": model, "data": data, "speed": speed, "known": second}
    publish(result, "\n\n".join(said), out)


def _speed(everything: Sequence[Clip], model: EncoderSpec, count: int, rounds: int) -> dict[str, Any]:
    encoder = model.load()
    ratios: list[float] = []
    seconds: dict[str, list[float]] = {"extraction": [], "encoder alone": []}
    with tempfile.TemporaryDirectory() as folder:
        clips = list(islice(flac_files(everything, encoder.sample_rate, Path(folder)), count))
        if not clips:
            raise QueryError("no recording can be decoded")
        keeping = KeepingEncoder(encoder)
        embed_clips(clips, replace(model, load=lambda: keeping), Path(folder) / "warm")

        def alone() -> None:
            for batch in keeping.batches:
                encoder.encode_audio(batch)

        for number in range(rounds):
            seconds["extraction"].append(_timed(partial(embed_clips, clips, model, Path(folder) / str(number))))
            seconds["encoder alone"].append(_timed(alone))
            ratios.append(seconds["encoder alone"][-1] / seconds["extraction"][-1])
    audio_s = sum(len(waveform) for batch in keeping.batches for waveform in batch) / encoder.sample_rate
    return {
        "clips": len(clips),
        "audio_s": audio_s,
        "cores": core_count(),
        "seconds": seconds,
        "medians": {name: float(np.median(times)) for name, times in seconds.items()},
        "ratios": ratios,
        "ratio": float(np.median(ratios)),
    }


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def flac_files(clips: Sequence[Clip], rate: int, folder: Path) -> Iterator[Clip]:
    """Yield clips whose recordings are FLAC files of `rate` Hz in `folder`; what cannot be decoded is passed over."""
    for number, clip in enumerate(clips):
        path = folder / f"{number:06d}.flac"
        try:
            waveform: npt.NDArray[np.float32] = load_audio(read_audio_bytes(clip.audio), rate)
        except AudioError:
            continue
        soundfile.write(path, np.clip(waveform, -1.0, 1.0), rate, subtype="PCM_16")
        yield replace(clip, audio=path)


def _known(count: int, model: str) -> dict[str, Any]:
    """Probe `count` clips twice; return seconds until the first epoch of each run, from its command on."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = synthetic(count, Path(folder))
        runs = {name: _first_epoch(manifest, model, Path(folder)) for name in ("first", "second")}
    return {"clips": count, "clip_s": _CLIP_S, **runs}


def _first_epoch(manifest: Path, model: str, folder: Path) -> dict[str, float]:
    arguments = ["--data", manifest, "--label", "pitch", "--model", model, "--set", "fit.epochs=2"]
    arguments += ["--cache", folder / "cache", "--run", folder / "run"]
    command = [sys.executable, "-m", "trainer", "probe", *map(str, arguments)]
    began = time.perf_counter()
    found: dict[str, float] = {}
    said: list[str] = []
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            if FIRST_EPOCH in line:
                found["first_epoch_s"] = time.perf_counter() - began
                found["vectors_s"] = float(line.partition(FIRST_EPOCH)[2].split()[0])
    if process.returncode or not found:
        raise QueryError(f"the probe failed: {said[-1].strip() if said else process.returncode}")
    return found


def synthetic(count: int, folder: Path) -> Path:
    """Write tones, low and high, no two alike, and their manifest."""
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

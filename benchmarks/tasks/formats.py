"""Indexing by format of the recordings, compared with the encoder alone: what decoding costs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import soundfile

from benchmarks.examples import model_option
from benchmarks.report import markdown, out_option, publish
from benchmarks.stand_ins import BatchRecorder, encode_all
from clara_search.audio.waveform import Waveform
from clara_search.models.base import Encoder
from clara_search.models.registry import load_encoder
from clara_search.store.database import Database

_RATE = 44_100
_PITCHES_PER_S = 10
_NOISE = 0.02


@dataclass(frozen=True)
class Format:
    """A format of recordings.

    Attributes:
        name: What the table calls it.
        suffix: Suffix of its files.
        rate: Samples a second.
        channels: Number of channels.
        kind: Name of libsndfile's format and subtype, or of FFmpeg's muxer and codec.
    """

    name: str
    suffix: str
    rate: int
    channels: int
    kind: tuple[str, str]


FORMATS = (
    Format("wav, 16 kHz mono", ".wav", 16_000, 1, ("WAV", "PCM_16")),
    Format("wav, 44.1 kHz stereo", ".wav", 44_100, 2, ("WAV", "PCM_16")),
    Format("flac, 44.1 kHz mono", ".flac", 44_100, 1, ("FLAC", "PCM_16")),
    Format("flac, 44.1 kHz stereo", ".flac", 44_100, 2, ("FLAC", "PCM_16")),
    Format("mp3, 44.1 kHz mono", ".mp3", 44_100, 1, ("mp3", "libmp3lame")),
    Format("mp3, 44.1 kHz stereo", ".mp3", 44_100, 2, ("mp3", "libmp3lame")),
    Format("ogg, 44.1 kHz mono", ".ogg", 44_100, 1, ("OGG", "VORBIS")),
    Format("m4a, 44.1 kHz mono", ".m4a", 44_100, 1, ("mp4", "aac")),
    Format("m4a, 44.1 kHz stereo", ".m4a", 44_100, 2, ("mp4", "aac")),
    Format("opus, 48 kHz mono", ".opus", 48_000, 1, ("ogg", "libopus")),
    Format("opus, 48 kHz stereo", ".opus", 48_000, 2, ("ogg", "libopus")),
)


@click.command()
@model_option
@click.option("--clips", type=click.IntRange(min=1), default=64, show_default=True, help="Clips of each format.")
@click.option("--seconds", type=click.FloatRange(min=1), default=10.0, show_default=True, help="Length of a clip.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Timings of each, in turn.")
@click.option("--format", "chosen", multiple=True, help='Only formats with this in their name, such as "opus".')
@out_option
def formats(model: str, clips: int, seconds: float, rounds: int, chosen: tuple[str, ...], out: Path | None) -> None:
    """Time indexing of each format of recordings, and the encoder alone on the same batches.

    The share is that of the encoder's processor time: other programs on the machine do not change it.
    """
    encoder = load_encoder(model)
    results = []
    for fmt in FORMATS:
        if not chosen or any(part in fmt.name for part in chosen):
            with tempfile.TemporaryDirectory() as folder:
                write_clips(Path(folder) / "clips", fmt, clips, seconds)
                results.append({"format": fmt.name, **measure(Path(folder), encoder, rounds)})
    rows = [
        [result["format"], *(f"{result[name]:.2f}" for name in ("indexing_ms", "encoder_ms")), f"{result['share']:.0%}"]
        for result in results
    ]
    headings = ["", "indexing, ms of processor a second of audio", "encoder alone", "share of the encoder"]
    result = {"benchmark": "formats", "model": encoder.name, "clips": clips, "seconds": seconds, "results": results}
    publish(result, markdown(headings, rows), out)


def measure(folder: Path, encoder: Encoder, rounds: int) -> dict[str, Any]:
    """Return medians of indexing `folder`/clips and of encoding, in ms of processor time a second of audio."""
    from indexer.pipeline import index

    recorder = BatchRecorder(encoder)
    summary = index([folder / "clips"], Database(folder / "warm", create=True), recorder)
    indexing, encoding = list[float](), list[float]()
    for number in range(rounds):
        database = Database(folder / f"db{number}", create=True)
        indexing.append(_processor_s(lambda database=database: index([folder / "clips"], database, encoder)))  # type: ignore[misc]
        encoding.append(_processor_s(lambda: encode_all(encoder, recorder.batches)))
    per_s = 1000 / summary.audio_s
    indexing_s, encoder_s = float(np.median(indexing)), float(np.median(encoding))
    return {
        "audio_s": summary.audio_s,
        "indexing_ms": indexing_s * per_s,
        "encoder_ms": encoder_s * per_s,
        "share": encoder_s / indexing_s,
    }


def _processor_s(run: Callable[[], object]) -> float:
    started_s = time.process_time()
    run()
    return time.process_time() - started_s


def write_clips(folder: Path, fmt: Format, count: int, seconds: float) -> None:
    """Write clips of tones of random pitch in noise."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        clip = _clip(rng, round(seconds * fmt.rate), fmt.rate)
        samples = np.stack([clip, np.roll(clip, 20)][: fmt.channels], 1)
        path = folder / f"{number:04}{fmt.suffix}"
        if fmt.kind[0].isupper():
            with soundfile.SoundFile(path, "w", fmt.rate, fmt.channels, fmt.kind[1], format=fmt.kind[0]) as file:
                for start in range(0, len(samples), 4096):  # Vorbis overflows the stack with long ones
                    file.write(samples[start : start + 4096])
        else:
            _write_coded(path, samples, fmt)


def _clip(rng: np.random.Generator, length: int, rate: int) -> Waveform:
    step = rate // _PITCHES_PER_S
    pitches = np.repeat(rng.uniform(150, 3000, length // step + 1), step)[:length]
    return (0.3 * np.sin(np.cumsum(2 * np.pi * pitches / rate)) + _NOISE * rng.standard_normal(length)).astype(
        np.float32
    )


def _write_coded(path: Path, samples: Waveform, fmt: Format) -> None:
    import av

    layout = "mono" if fmt.channels == 1 else "stereo"
    with av.open(str(path), "w", format=fmt.kind[0]) as container:
        stream: Any = container.add_stream(fmt.kind[1], rate=fmt.rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout=layout)
        frame.sample_rate = fmt.rate
        for part in av.AudioResampler(stream.codec_context.format, layout, fmt.rate).resample(frame):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))

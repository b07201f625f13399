"""Small recordings in many formats, made with PyAV and soundfile, and surgery on their bytes."""

from __future__ import annotations

import io
import struct
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import soundfile

from clara_search.audio.decode.formats import mpeg_frame_bytes

Samples = npt.NDArray[np.float32]


def encoded(waveform: Samples, kind: str, rate: int = 44_100, subtype: str | None = None) -> bytes:
    """A file of libsndfile, of samples of shape (samples,) or (samples, channels), written in short blocks."""
    channels = 1 if waveform.ndim == 1 else waveform.shape[1]
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate, channels, subtype, format=kind) as file:
        for start in range(0, max(1, len(waveform)), 4096):  # Vorbis overflows the stack with long ones
            file.write(waveform[start : start + 4096])
    return buffer.getvalue()


def contained(
    tracks: Samples | Sequence[Samples],
    container: str,
    codec: str,
    rate: int = 44_100,
    layout: str = "mono",
    offset_s: float = 0.0,
    options: dict[str, str] | None = None,
    bit_rate: int | None = None,
    default: int | None = None,
    gap: tuple[int, float] | None = None,
) -> bytes:
    """A file of FFmpeg.

    Args:
        tracks: Samples of each track, shape (samples,) or (channels, samples).
        container: Name of FFmpeg's muxer.
        codec: Name of FFmpeg's encoder.
        rate: Samples a second.
        layout: FFmpeg's name of the channels.
        offset_s: Where the sound begins.
        options: Options of the muxer.
        bit_rate: Bits a second.
        default: The track that is flagged as default; None: as FFmpeg does.
        gap: From this sample on everything is later by so many seconds.
    """
    tracks = [tracks] if isinstance(tracks, np.ndarray) else tracks
    with tempfile.TemporaryDirectory() as folder:  # "faststart" reads the file again
        path = Path(folder) / "file"
        _write(path, tracks, container, codec, rate, layout, offset_s, options, bit_rate, default, gap)
        return path.read_bytes()


def _write(
    path: Path,
    tracks: Sequence[Samples],
    container: str,
    codec: str,
    rate: int,
    layout: str,
    offset_s: float,
    options: dict[str, str] | None,
    bit_rate: int | None,
    default: int | None,
    gap: tuple[int, float] | None,
) -> None:
    with av.open(str(path), "w", format=container, options=options or {}) as output:
        streams = []
        for number in range(len(tracks)):
            stream = output.add_stream(codec, rate=rate, layout=layout)
            if bit_rate:
                stream.bit_rate = bit_rate
            if default is not None:
                stream.disposition = av.stream.Disposition.default if number == default else av.stream.Disposition(0)
            streams.append(stream)
        for stream, samples in zip(streams, tracks, strict=True):
            planar = np.ascontiguousarray(np.atleast_2d(samples), np.float32)
            pieces = [(0, planar, offset_s)]
            if gap is not None:
                pieces = [(0, planar[:, : gap[0]], offset_s), (gap[0], planar[:, gap[0] :], offset_s + gap[1])]
            resampler = av.AudioResampler(stream.codec_context.format, layout, rate)
            size = stream.codec_context.frame_size or 1024
            for first, piece, late_s in pieces:
                for start in range(0, piece.shape[1], size):
                    part = piece[:, start : start + size].T.reshape(1, -1)
                    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format="flt", layout=layout)
                    frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
                    frame.pts = first + start + round(late_s * rate)
                    for ready in resampler.resample(frame):
                        output.mux(stream.encode(ready))
            output.mux(stream.encode(None))


def tone(seconds: float, hz: float = 440.0, rate: int = 44_100) -> Samples:
    """A sine at half scale."""
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def melody(seconds: float, rate: int = 44_100, seed: int = 0, scale: float = 0.3) -> Samples:
    """Tones of random pitch, ten a second: every codec keeps them, and they are like themselves at one time only."""
    rng = np.random.default_rng(seed)
    length, step = round(seconds * rate), rate // 10
    pitches = rng.uniform(250, min(2500, rate / 5), length // step + 1)
    phase = np.cumsum(2 * np.pi * np.repeat(pitches, step)[:length] / rate)
    return (scale * np.sin(phase)).astype(np.float32)


def quiet_then_loud(seconds: float, rate: int = 44_100) -> Samples:
    """A soft melody, then a loud one with noise: a variable bit rate doubles in the middle."""
    hiss = np.random.default_rng(7).standard_normal(round(seconds / 2 * rate))
    loud = melody(seconds / 2, rate, 2, 0.5) + 0.02 * hiss
    return np.concatenate([melody(seconds / 2, rate, 1, 0.02), loud.astype(np.float32)])


def without_xing(mp3: bytes) -> bytes:
    """An MP3 file without its tag and its header of lengths."""
    at = 10 + sum((byte & 127) << shift for byte, shift in zip(mp3[6:10], (21, 14, 7, 0), strict=True))
    content = mp3[at:] if mp3[:3] == b"ID3" else mp3
    assert b"Xing" in content[:64] or b"Info" in content[:64]
    return content[mpeg_frame_bytes(content[:4]) :]


def with_sizes(wav: bytes, riff: int | None = None, data: int | None = None) -> bytes:
    """A WAV file whose header states other sizes."""
    changed = bytearray(wav)
    if riff is not None:
        struct.pack_into("<I", changed, 4, riff)
    if data is not None:
        struct.pack_into("<I", changed, wav.index(b"data") + 4, data)
    return bytes(changed)

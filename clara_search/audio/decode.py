"""Decode recordings to mono waveforms with libsndfile, or FFmpeg for other formats."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import soundfile

from clara_search.audio.resample import resample
from clara_search.audio.waveform import LOWEST_RATE, Waveform
from clara_search.errors import AudioError

LIBSNDFILE_SUFFIXES = frozenset(".wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .caf .w64 .rf64".split())
FFMPEG_SUFFIXES = frozenset(".m4a .aac .mp4 .mkv .webm .mka .mov .wma .ac3 .amr".split())
AUDIO_SUFFIXES = LIBSNDFILE_SUFFIXES | FFMPEG_SUFFIXES
"""Suffixes that count as audio when a folder is listed (lower case, dot included)."""

_FFMPEG_FORMATS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,eac3,flac,flv,matroska,mov,mp3,mpeg,mpegts,ogg,tta,w64,wav,webm,wv"
)
"""Demuxers that read the file they are given and nothing else: no lists of other files, no descriptions of streams."""

_FFMPEG_OPTIONS = {"format_whitelist": _FFMPEG_FORMATS, "protocol_whitelist": "none"}
"""Formats are recognised by content: a file called a.m4a may be an ffconcat list of others, or open sockets (SDP)."""

_REPEAT_LIMIT = 2
_REPEAT_SLACK_BYTES = 1 << 16
"""A container may yield twice its size and 64 KiB in packets: an edit list can play a second of sound for hours."""

TRUNCATION_TOLERANCE_S = 0.25
"""Seconds that may be missing of the duration in the header: encoder delay and padding are shorter."""

_WAV_CHUNKS = frozenset((b"fmt ", b"data", b"LIST", b"fact", b"JUNK", b"bext", b"cue ", b"PEAK", b"id3 ", b"iXML"))
"""Chunks of an ordinary WAV file."""

_ENDLESS_BYTES = 0x7FFF_0000  # programs that write to a pipe declare about this, or twice as much


def load_audio(source: str | Path | bytes | BinaryIO, sample_rate: int) -> Waveform:
    """Return a whole recording as mono float32, shape (samples,); channels are averaged.

    Args:
        source: A path, the bytes of a file, or a binary file object.
        sample_rate: Rate of the waveform in Hz.

    Raises:
        AudioError: It cannot be read or decoded, is empty, ends before its header says, or has samples that are not
            finite. The message names the source.
    """
    waveform, native_rate = decode(source)
    return resample(waveform, native_rate, sample_rate)


def decode(source: str | Path | bytes | BinaryIO) -> tuple[Waveform, int]:
    """Return a recording as mono float32, shape (samples,), and its own rate in Hz. Raises as `load_audio` does."""
    name = _name(source)
    content = _read_bytes(source, name)
    if not content:
        raise AudioError(f"{name}: the file is empty (0 bytes)")
    try:
        samples, rate = _decode_whole(content, name)
    except soundfile.LibsndfileError:
        samples, rate = _decode_av(content, name)
    if samples.shape[0] == 0:
        raise AudioError(f"{name}: holds no samples")
    if rate < LOWEST_RATE:
        raise AudioError(f"{name}: has {rate} samples a second: not a recording")
    waveform = samples.mean(axis=1, dtype=np.float32) if samples.ndim == 2 else samples
    if not np.isfinite(waveform).all():
        raise AudioError(f"{name}: holds samples that are not finite")
    return np.ascontiguousarray(waveform, dtype=np.float32), rate


def _name(source: object) -> str:
    if isinstance(source, bytes):
        return f"<{len(source)} bytes>"
    return str(getattr(source, "name", source))


def _read_bytes(source: str | Path | bytes | BinaryIO, name: str) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        return Path(source).read_bytes() if isinstance(source, (str, Path)) else source.read()
    except OSError as error:
        raise AudioError(f"{name}: {error.strerror or error}") from error


def _decode_whole(content: bytes, name: str) -> tuple[Waveform, int]:
    samples, rate, declared = _decode_pcm(content) or _decode_soundfile(content)
    decoded_s = len(samples) / rate
    # libsndfile reports the samples that are left of a truncated WAV or AIFF; the outermost chunk has the whole size.
    declared_s = max(declared / rate, decoded_s * _chunk_bytes(content) / len(content))
    _check_whole(decoded_s, declared_s, name)
    return samples, rate


def _decode_soundfile(content: bytes) -> tuple[Waveform, int, int]:
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        return file.read(dtype="float32", always_2d=False), file.samplerate, file.frames


def _decode_pcm(content: bytes) -> tuple[Waveform, int, int] | None:
    """Decode an ordinary WAV file of 16-bit samples, bit for bit as libsndfile does; None for all others.

    libsndfile reads memory through Python, a few kilobytes a call, which blocks the other threads.
    """
    chunks = _wav_chunks(content)
    if len(chunks.get(b"fmt ", b"")) != 16 or b"data" not in chunks:
        return None
    tag, channels, rate, _, block, bits = struct.unpack("<HHIIHH", chunks[b"fmt "])
    data = chunks[b"data"]
    ordinary = (tag, bits, block) == (1, 16, 2 * channels) and 1 <= channels <= 8 and LOWEST_RATE <= rate <= 1_000_000
    if not ordinary or not len(data) or len(data) % block:
        return None
    samples = np.frombuffer(data, "<i2").astype(np.float32)
    samples *= 1 / 32768
    return samples if channels == 1 else samples.reshape(-1, channels), rate, len(data) // block


def _wav_chunks(content: bytes) -> dict[bytes, memoryview]:
    """Return the chunks of a WAV file by name; an empty dict for a file that is not ordinary."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE" or 8 + int.from_bytes(content[4:8], "little") != len(content):
        return {}
    chunks: dict[bytes, memoryview] = {}
    start = 12
    while start < len(content):
        name, size = content[start : start + 4], int.from_bytes(content[start + 4 : start + 8], "little")
        end = start + 8 + size
        if name not in _WAV_CHUNKS or name in chunks or end > len(content):
            return {}
        chunks[name] = memoryview(content)[start + 8 : end]
        start = end + size % 2
    return chunks


def _chunk_bytes(content: bytes) -> int:
    """Return the size in bytes in the header of a RIFF or AIFF file; 0 for other formats and for streams."""
    order: dict[bytes, Literal["little", "big"]] = {b"RIFF": "little", b"FORM": "big"}
    if content[:4] not in order:
        return 0
    size = 8 + int.from_bytes(content[4:8], order[content[:4]])
    return 0 if size >= _ENDLESS_BYTES else size


def _decode_av(content: bytes, name: str) -> tuple[Waveform, int]:
    """Decode formats that libsndfile does not know (m4a, webm, mp4, wma ...) with FFmpeg's libraries."""
    import av  # 40 ms, and only for these formats

    try:
        with av.open(io.BytesIO(content), mode="r", options=_FFMPEG_OPTIONS, metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise AudioError(f"{name}: has no audio track")
            stream = container.streams.audio[0]
            declared_s = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
            resampler = av.AudioResampler(format="fltp", layout="mono")
            rate = int(stream.rate)
            packets = _unrepeated(container.demux(stream), len(content), name)
            frames = [out for packet in packets for frame in packet.decode() for out in resampler.resample(frame)]
            frames += resampler.resample(None)
    except (av.error.FFmpegError, ValueError, AttributeError) as error:  # a stream that it has no name for
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{name}: not a recording that can be decoded ({reason})") from error
    samples = np.concatenate([frame.to_ndarray()[0] for frame in frames]) if frames else np.zeros(0, np.float32)
    _check_whole(len(samples) / rate, declared_s, name)
    return samples, rate


def _unrepeated(packets: Iterable[Any], size: int, name: str) -> Iterator[Any]:
    """Yield the packets of a container of `size` bytes. Raises AudioError if they are far larger than the container."""
    limit = _REPEAT_LIMIT * size + _REPEAT_SLACK_BYTES
    for packet in packets:
        limit -= packet.size
        if limit < 0:
            raise AudioError(f"{name}: plays the same part of the file again and again")
        yield packet


def _check_whole(decoded_s: float, declared_s: float, name: str) -> None:
    if decoded_s < declared_s - TRUNCATION_TOLERANCE_S:
        raise AudioError(f"{name}: truncated, {decoded_s:.2f} s decoded of the {declared_s:.2f} s its header declares")

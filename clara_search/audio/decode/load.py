"""Whole recordings, and segments of them, as one waveform."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from clara_search.audio.decode.source import AudioSource
from clara_search.audio.decode.stream import stream_audio
from clara_search.audio.times import LONGEST_S
from clara_search.audio.waveform import Waveform
from clara_search.errors import AudioError
from clara_search.files.limits import WAVEFORM_BYTES


@dataclass(frozen=True)
class DecodedAudio:
    """A recording, or a segment of one.

    Attributes:
        waveform: Mono float32, shape (samples,).
        sample_rate: Its rate in Hz.
        start_s: Where it starts in the recording, in seconds, as a player shows it.
        notes: What is out of the ordinary about the recording, such as "2 packets damaged".
        tracks: Number of audio tracks in the file.
    """

    waveform: Waveform = field(repr=False)
    sample_rate: int
    start_s: float = 0.0
    notes: tuple[str, ...] = ()
    tracks: int = 1


def load_audio(
    source: AudioSource | str | Path | bytes | BinaryIO,
    sample_rate: int,
    start_s: float | None = None,
    end_s: float | None = None,
    track: int | None = None,
) -> Waveform:
    """Return a recording as mono float32, shape (samples,); see `decode_audio`."""
    return decode_audio(source, sample_rate, start_s, end_s, track).waveform


def decode_audio(
    source: AudioSource | str | Path | bytes | BinaryIO,
    sample_rate: int,
    start_s: float | None = None,
    end_s: float | None = None,
    track: int | None = None,
) -> DecodedAudio:
    """Decode a recording, or a segment of it.

    Args:
        source: A path, the bytes of a file, or a binary file object.
        sample_rate: Rate of the waveform in Hz.
        start_s: Start of the segment in seconds, as a player shows it; None: where the sound starts.
        end_s: End of the segment in seconds; None, or later than it: the end of the recording.
        track: Number of the audio track, from 1; None: the default one.

    Returns:
        The waveform, where it starts, and notes.

    Raises:
        AudioError: It cannot be read or decoded, is empty, is truncated, has samples that are not finite, or is larger
            than the limits; or the segment starts behind its end. The message names the source.
    """
    stream = stream_audio(source, sample_rate, track)
    if broken := [time_s for time_s in (start_s, end_s) if time_s is not None and not abs(time_s) < LONGEST_S]:
        raise AudioError(f"{stream.name}: {broken[0]:g} s is no time in a recording")
    first, last = round((start_s or 0.0) * sample_rate), None if end_s is None else round(end_s * sample_rate)
    blocks, at, kept, start = list[Waveform](), None, 0, 0
    for block in stream:
        at = stream.start if at is None else at
        low = max(0, first - at)
        high = len(block) if last is None else min(len(block), max(last, first + 1) - at)
        if low < high:
            start = at + low if not blocks else start
            kept += 4 * (high - low)
            WAVEFORM_BYTES.check(kept, stream.name, AudioError)
            blocks.append(block[low:high])
        at += len(block)
    if not blocks:
        raise AudioError(f"{stream.name}: {outside(start_s, end_s, stream.start, at or 0, sample_rate)}")
    waveform = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    return DecodedAudio(
        np.ascontiguousarray(waveform), sample_rate, start / sample_rate, tuple(stream.notes), stream.tracks
    )


def outside(start_s: float | None, end_s: float | None, start: int, end: int, sample_rate: int) -> str:
    """Return why nothing of a recording, from sample `start` to `end`, is in a segment."""
    if end_s is not None and end_s * sample_rate <= start:
        return f"ends at {end_s:g} s, but the recording starts at {start / sample_rate:.2f} s"
    return f"starts at {start_s or 0:g} s, but the recording lasts {end / sample_rate:.2f} s"

"""Recordings as streams of mono blocks at one rate: mixed, resampled, and at their place in the recording."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soxr

from clara_search.audio.decode.backends import read_blocks
from clara_search.audio.decode.blocks import Block, Mixer
from clara_search.audio.decode.notes import Notes
from clara_search.audio.decode.source import AudioSource
from clara_search.audio.waveform import LOWEST_RATE, Waveform
from clara_search.errors import AudioError
from clara_search.files.limits import (
    AUDIO_CHANNELS,
    AUDIO_FREE_SECONDS,
    AUDIO_RATE,
    AUDIO_SECONDS,
    AUDIO_SECONDS_PER_KB,
)

_SILENCE_SAMPLES = 1 << 17

_AT_ONCE_S = 0.02
"""Sound that starts earlier than this starts at 0: decoders round the delays of their codecs."""

_LOUDEST = 4.0
"""Louder samples of a lossy codec, 12 dB above full scale, are damage; they come in bursts of `_BURST_SAMPLES`."""

_BURST_SAMPLES = 1152


class AudioStream:
    """A recording as blocks of mono float32, one after the other without gaps. It can be iterated once.

    Attributes:
        sample_rate: Rate of the blocks in Hz.
        start: Where the first block starts in the recording, in samples; known once it was yielded.
    """

    def __init__(self, source: AudioSource, sample_rate: int, track: int | None = None):
        self.name = source.name
        self.sample_rate = sample_rate
        self.start = 0
        self._size = source.size
        self._notes = Notes()
        self._mixer = Mixer()
        self._blocks = read_blocks(source, self._notes, track)
        self._length_s = 0.0

    @property
    def notes(self) -> list[str]:
        """What is out of the ordinary, each in a few words; complete at the end."""
        self._notes.is_silent = self._mixer.is_silent
        return self._notes.lines()

    @property
    def tracks(self) -> int:
        """Number of audio tracks in the file; known at the end."""
        return self._notes.other_tracks + 1

    def __iter__(self) -> Iterator[Waveform]:
        """Yield blocks, each of shape (samples,) and not empty.

        Raises:
            AudioError: The recording cannot be decoded, is truncated, or is larger than the limits.
        """
        resampler: _Resampler | None = None
        kind = (0, 0)
        is_first = True
        for block in self._blocks:
            if kind != (block.rate, len(block.samples)):
                self._check_kind(block)
                if resampler is None or resampler.rate != block.rate:
                    yield from resampler.flush() if resampler is not None else ()
                    resampler = _Resampler(block.rate, self.sample_rate)
                self._notes.changes += kind[0] > 0
                kind = (block.rate, len(block.samples))
            assert resampler is not None
            if is_first:
                self._start_at(block.start_s or 0.0)
                is_first = False
            elif block.start_s is not None:
                yield from resampler.feed_silence(self._gap(block.start_s))
            self._count(block.samples.shape[1] / block.rate)
            yield from resampler.feed(self._finite(self._mixer.mix(block), block.is_lossy))
        if resampler is not None:
            yield from resampler.flush()

    def _check_kind(self, block: Block) -> None:
        if block.rate < LOWEST_RATE:
            raise AudioError(f"{self.name}: has {block.rate} samples a second: not a recording")
        AUDIO_RATE.check(block.rate, self.name, AudioError)
        AUDIO_CHANNELS.check(len(block.samples), self.name, AudioError)

    def _start_at(self, start_s: float) -> None:
        start_s = start_s if start_s >= _AT_ONCE_S else 0.0
        self._notes.start_s = start_s
        self.start = round(start_s * self.sample_rate)

    def _gap(self, start_s: float) -> float:
        """Return the seconds from the end of the block before to `start_s`, and count them."""
        gap_s = max(0.0, start_s - self._notes.start_s - self._length_s)
        self._notes.gaps += gap_s > 0
        self._notes.gap_s += gap_s
        self._count(gap_s)
        return gap_s

    def _count(self, seconds: float) -> None:
        self._length_s += seconds
        AUDIO_SECONDS.check(self._length_s, self.name, AudioError)
        if self._length_s > AUDIO_FREE_SECONDS.value:
            AUDIO_SECONDS_PER_KB.check(1000 * self._length_s / self._size, self.name, AudioError)

    def _finite(self, waveform: Waveform, is_lossy: bool) -> Waveform:
        """Return `waveform` with silence where a decoder computed nonsense. Raises AudioError if the file holds it."""
        if not len(waveform) or max(float(waveform.max()), -float(waveform.min())) <= _LOUDEST:  # not of a NaN
            return waveform
        if not is_lossy:
            if not np.isfinite(waveform).all():
                raise AudioError(f"{self.name}: holds samples that are not finite")
            return waveform
        self._notes.damaged += 1
        sound = waveform.copy()
        for index in np.flatnonzero(~(np.abs(waveform) <= _LOUDEST)):
            sound[max(0, index - _BURST_SAMPLES) : index + _BURST_SAMPLES] = 0
        return sound


class _Resampler:
    """Resamples a stream with soxr at high quality."""

    def __init__(self, rate: int, to_rate: int):
        self.rate = rate
        self._stream = None if rate == to_rate else soxr.ResampleStream(rate, to_rate, 1, "float32", quality="HQ")
        self._first: Waveform | None = None

    def feed(self, waveform: Waveform) -> Iterator[Waveform]:
        """Yield what is ready of a waveform."""
        if self._stream is None:
            if len(waveform):
                yield waveform
            return
        if self._first is None and len(waveform):
            self._first = waveform[:1].copy()
        resampled = self._stream.resample_chunk(np.ascontiguousarray(waveform))
        if len(resampled):
            self._first = np.zeros(0, np.float32)
            yield resampled

    def feed_silence(self, seconds: float) -> Iterator[Waveform]:
        """Yield silence."""
        left = round(seconds * self.rate)
        while left > 0:
            yield from self.feed(np.zeros(min(left, _SILENCE_SAMPLES), np.float32))
            left -= _SILENCE_SAMPLES

    def flush(self) -> Iterator[Waveform]:
        """Yield the rest."""
        if self._stream is None:
            return
        rest = self._stream.resample_chunk(np.zeros(0, np.float32), last=True)
        # A recording of a few samples can round to none: it keeps its first one.
        if not len(rest) and self._first is not None:
            rest = self._first
        if len(rest):
            yield rest


def stream_audio(
    source: AudioSource | str | Path | bytes | BinaryIO, sample_rate: int, track: int | None = None
) -> AudioStream:
    """Return a recording as a stream of mono float32 blocks, in memory that does not grow with its length.

    All formats are read to the real end of their data, by libsndfile and FFmpeg, which step in for each other. Channels
    are mixed by one rule (`clara_search.audio.decode.blocks.WEIGHTS`). What is damaged, and gaps, become silence, so
    that positions are those that a player shows.

    Args:
        source: A path, the bytes of a file, or a binary file object, which is read to its end.
        sample_rate: Rate of the blocks in Hz.
        track: Number of the audio track, from 1, of a file with several; None: the one flagged as default.

    Raises:
        AudioError: `source` cannot be read or is empty; further ones come while the stream is iterated.
    """
    return AudioStream(AudioSource.of(source), sample_rate, track)

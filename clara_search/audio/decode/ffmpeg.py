"""FFmpeg's libraries as a backend: all coded formats, and films."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from clara_search.audio.decode.blocks import Block, Facts, to_float
from clara_search.audio.decode.formats import (
    ARBITRARY_START_FORMATS,
    EXACT_FORMATS,
    FFMPEG_OPTIONS,
    LOSSLESS_CODECS,
    UNTIMED_FORMATS,
)
from clara_search.audio.decode.headers import find_data, flac_duration_s, is_matroska_cut, mp3_duration_s
from clara_search.audio.decode.source import AudioSource
from clara_search.audio.decode.turns import in_turn
from clara_search.errors import AudioError
from clara_search.files.limits import AUDIO_CHANNELS

if TYPE_CHECKING:
    import av
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream as Track
    from av.packet import Packet

_BLOCK_SAMPLES = 1 << 16
_IO_BYTES = 1 << 16

_REPEAT_LIMIT = 2
_REPEAT_SLACK_BYTES = 1 << 16
"""A container may yield twice its size and 64 KiB in packets: an edit list can play a second of sound for hours."""

_GAP_S = 0.03
"""Times of packets are rounded and jitter: a frame has to be later than this to leave a gap."""

_MAX_GAP_S = 3600.0
_MAX_CLOCK_GAP_S = 10.0
"""Longer gaps are jumps of the clock, not silence; the second value is of formats whose clock starts anywhere."""

_MAX_BROKEN_READS = 100
"""As many times in a row is a demuxer asked again after an error."""

_TAGS = (b"ID3", b"TAG", b"APE", b"LYR")
"""Beginnings of tags, which a demuxer passes on as packets if they are between joined files."""


def read_ffmpeg(
    source: AudioSource, facts: Facts, track: int | None = None, demuxer: str | None = None
) -> Iterator[Block]:
    """Yield the blocks of an audio track; what is damaged, or is not there, is silence.

    Args:
        source: The file.
        facts: Gets what the container states.
        track: Number of the audio track, from 1; None: the one that the file flags as its default, or the first.
        demuxer: FFmpeg's name of the format, of one that the content does not tell; None: as the content tells.

    Raises:
        NoTrack: There is no audio track.
        AudioError: There is no track of this number, or the same part is played again and again.
        FFmpegError: It cannot be decoded.
    """
    import av  # 40 ms

    options = dict(FFMPEG_OPTIONS)
    data = find_data(source)
    if data is not None and data.overrides:
        options["ignore_length"] = "1"
    with (
        source.open() as file,
        av.open(
            file, mode="r", format=demuxer, options=options, metadata_errors="ignore", buffer_size=_IO_BYTES
        ) as container,
    ):
        stream = _choose_track(container, track, facts, source.name)
        formats = set(container.format.name.split(","))
        facts.is_lossy = not stream.codec_context.name.startswith(LOSSLESS_CODECS)
        facts.declared_s = _declared_s(source, stream, formats)
        facts.is_cut = is_matroska_cut(source) or (data is not None and data.cut_share > 1)
        clock = None
        if not formats & UNTIMED_FORMATS:
            is_arbitrary = bool(formats & ARBITRARY_START_FORMATS)
            origin = (container.start_time or 0) / 1e6 if is_arbitrary else 0.0
            clock = _Clock(origin, _MAX_CLOCK_GAP_S if is_arbitrary else _MAX_GAP_S)
        decoded = 0.0
        packets = _unrepeated(_packets(container, stream, facts), source)
        for block in in_turn(_Gatherer(source.name, facts, clock).blocks(packets)):
            decoded += block.samples.shape[1] / block.rate
            yield block
        if data is not None:
            facts.declared_s = decoded * data.cut_share


def _declared_s(source: AudioSource, stream: Track, formats: set[str]) -> float | None:
    if "flac" in formats:
        return flac_duration_s(source.read(0, 64))
    if "mp3" in formats:
        return mp3_duration_s(source)
    is_exact = formats & EXACT_FORMATS and stream.duration and stream.time_base
    return float(stream.duration * stream.time_base) if is_exact else None  # type: ignore[operator]


_DTYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}


class NoTrack(Exception):
    """A file without an audio track that can be decoded."""


def _choose_track(container: av.container.InputContainer, number: int | None, facts: Facts, name: str) -> Track:
    from av.stream import Disposition

    tracks = [stream for stream in container.streams.audio if stream.codec_context is not None]
    if not container.streams.audio:
        raise NoTrack("has no audio track")
    if not tracks:
        raise NoTrack("its audio track is of an unknown kind")
    facts.other_tracks = len(tracks) - 1
    if number is None or len(tracks) == 1:
        return next((track for track in tracks if track.disposition & Disposition.default), tracks[0])
    if number > len(tracks):
        raise AudioError(f"{name}: has {len(tracks)} audio tracks, no track {number}")
    facts.track = number
    return tracks[number - 1]


def _packets(container: av.container.InputContainer, stream: Track, facts: Facts) -> Iterator[Packet[Any]]:
    """Yield the packets of a track; the demuxer is asked again after an error, as long as it goes on."""
    import av

    failures = 0
    while True:
        try:
            for packet in container.demux(stream):
                failures = 0
                yield packet
            return
        except av.error.FFmpegError:
            failures += 1
            facts.damaged += failures == 1
            if failures > _MAX_BROKEN_READS:
                return


def _unrepeated(packets: Iterator[Packet[Any]], source: AudioSource) -> Iterator[Packet[Any]]:
    """Yield `packets`. Raises AudioError if they are far larger than their container."""
    limit = _REPEAT_LIMIT * source.size + _REPEAT_SLACK_BYTES
    for packet in packets:
        limit -= packet.size
        if limit < 0:
            raise AudioError(f"{source.name}: plays the same part of the file again and again")
        yield packet


class _Clock:
    """Times of a container, as a player shows them."""

    def __init__(self, origin_s: float, max_gap_s: float):
        self._offset_s = -origin_s
        self._max_gap_s = max_gap_s
        self._next_s: float | None = None

    def start_of(self, frame: AudioFrame) -> float | None:
        """Return where a frame begins if that is not where the one before ended; count it."""
        start_s, length_s = None, frame.samples / frame.sample_rate
        if self._next_s is None:
            start_s = self._next_s = max(0.0, (frame.time or 0.0) + self._offset_s)
        elif frame.pts is not None:
            late_s = (frame.time or 0.0) + self._offset_s - self._next_s
            if abs(late_s) > self._max_gap_s or late_s < -1.0:
                self._offset_s -= late_s
            elif late_s > _GAP_S:
                start_s = self._next_s = self._next_s + late_s
        self._next_s += length_s
        return start_s

    def skip(self, seconds: float) -> None:
        """Count silence that was put in place of a damaged packet."""
        if self._next_s is not None:
            self._next_s += seconds


class _Gatherer:
    """Joins decoded frames, which are short, to blocks."""

    def __init__(self, name: str, facts: Facts, clock: _Clock | None):
        self._name = name
        self._facts = facts
        self._clock = clock
        self._kind: tuple[int, int] | None = None
        self._layout: tuple[str, ...] = ()
        self._layout_name = ""
        self._start_s: float | None = None
        self._fifo: Any = None

    def blocks(self, packets: Iterator[Packet[Any]]) -> Iterator[Block]:
        """Yield the blocks of a track's `packets`."""
        import av

        facts, longest = self._facts, 0
        for packet in packets:
            try:
                frames = packet.decode()
            except av.error.EOFError:
                break
            except (av.error.FFmpegError, ValueError) as error:
                if isinstance(error, MemoryError):
                    raise
                if bytes(memoryview(packet)[:3]) not in _TAGS:
                    facts.damaged += 1
                    duration_s = float((packet.duration or 0) * (packet.time_base or 0))
                    facts.lost_s += duration_s if self._kind is not None else 0.0
                continue
            for frame in cast("Sequence[AudioFrame]", frames):
                longest = max(longest, frame.samples)
                yield from self._add(frame)
        yield from self._drain()
        facts.longest_packet_s = longest / self._kind[0] if self._kind else 0.0

    def _add(self, frame: AudioFrame) -> Iterator[Block]:
        """Yield what `frame` completes. Few steps, for frames are short: a recording of an hour has 180,000."""
        facts = self._facts
        if facts.lost_s and self._kind is not None:
            yield from self._drain()
            yield self._silence(facts.lost_s)
            facts.lost_s = 0.0
        facts.damaged += frame.is_corrupt
        if self._clock is not None:
            start_s = self._clock.start_of(frame)
            if start_s is not None:
                yield from self._drain()
                self._start_s = start_s
        frame.pts = None  # or the queue refuses frames that do not join
        try:
            if self._fifo is None or frame.layout.name != self._layout_name:  # the queue would read what is not there
                raise ValueError
            self._fifo.write(frame)
        except ValueError:  # of another rate or format
            yield from self._drain()
            self._begin(frame)
        if self._fifo.samples >= _BLOCK_SAMPLES:
            yield from self._drain(is_end=False)

    def _begin(self, frame: AudioFrame) -> None:
        import av

        AUDIO_CHANNELS.check(frame.layout.nb_channels, self._name, AudioError)
        self._kind = (frame.sample_rate, frame.layout.nb_channels)
        self._layout, self._layout_name = _channel_names(frame), frame.layout.name
        self._fifo = av.AudioFifo()
        self._fifo.write(frame)

    def _silence(self, seconds: float) -> Block:
        if self._clock is not None:
            self._clock.skip(seconds)
        assert self._kind is not None
        rate, channels = self._kind
        return Block(np.zeros((channels, round(seconds * rate)), np.float32), rate, self._layout)

    def _drain(self, is_end: bool = True) -> Iterator[Block]:
        if self._fifo is not None and self._fifo.samples:
            assert self._kind is not None
            samples = _samples(self._fifo.read(0, partial=True))
            yield Block(samples, self._kind[0], self._layout, self._start_s)
            self._start_s = None
        if is_end:
            self._fifo = None


def _channel_names(frame: AudioFrame) -> tuple[str, ...]:
    names = tuple(channel.name for channel in frame.layout.channels)
    return () if "NONE" in names else names


def _samples(frame: AudioFrame) -> npt.NDArray[np.float32]:
    """Return the samples of a frame, shape (channels, samples).

    PyAV's own `to_ndarray` and `planes` read on behind the last of eight and more channels until they meet a zero.
    """
    from av.audio import plane

    plane_of: Any = plane.AudioPlane  # its annotations lack the arguments
    channels, kind = frame.layout.nb_channels, np.dtype(_DTYPES[frame.format.name.removesuffix("p")])
    if frame.format.is_planar:
        planes = [np.frombuffer(plane_of(frame, number), kind, frame.samples) for number in range(channels)]
        return to_float(np.stack(planes))
    return to_float(np.frombuffer(plane_of(frame, 0), kind, frame.samples * channels).reshape(-1, channels).T)

"""Which backend reads a file, and which one checks it: blocks of all channels, to the real end of the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from clara_search.audio.decode.blocks import Block, Facts
from clara_search.audio.decode.ffmpeg import NoTrack, read_ffmpeg
from clara_search.audio.decode.formats import SNIFF_BYTES, is_raw_gsm
from clara_search.audio.decode.headers import find_data, split_ogg
from clara_search.audio.decode.notes import Notes
from clara_search.audio.decode.pcm import read_pcm
from clara_search.audio.decode.sndfile import read_sndfile
from clara_search.audio.decode.source import AudioSource
from clara_search.errors import AudioError, first_line

TRUNCATION_TOLERANCE_S = 0.25
"""Seconds that may be missing of an exact duration: encoder delay and padding are shorter."""

_DAMAGE_REACH = 2.0
"""A damaged packet may cost this many times the longest one."""

_SHORTEST_PACKET_S = 0.1
"""At least this long counts the longest packet, of which only good ones tell the length."""

_SHORT_PAGES = 3
_MAX_PAGES_BYTES = _SHORT_PAGES * (27 + 255 * 256)
"""FFmpeg misplaces Vorbis by up to 32 ms whose samples are all on one page: two more hold the headers."""

Backend = Callable[[AudioSource, Facts], Iterator[Block]]

_PCM_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"caff", b".snd", b"riff", b"NIST", b"Crea", b"\0ds.")


@dataclass
class _Attempts:
    """What the backends made of a file so far."""

    done_s: float = 0.0
    facts: Facts = field(default_factory=Facts)
    failures: dict[str, Exception] = field(default_factory=dict)
    was_opened: bool = False


def read_blocks(source: AudioSource, notes: Notes, track: int | None = None) -> Iterator[Block]:
    """Yield the blocks of a recording, of all links of a chained or joined one.

    If a backend refuses a file, finds nothing in it, fails, or ends earlier than the file states exactly, the next one
    goes on where it ended.

    Args:
        source: The recording.
        notes: Gets what is out of the ordinary.
        track: Number of the audio track, from 1; None: the default one.

    Raises:
        AudioError: No backend can decode it, it holds no samples, or it is truncated.
    """
    for number, part in enumerate(_split(source, notes)):
        for block in _read_part(part, notes, track):
            yield replace(block, start_s=None) if number else block


def _split(source: AudioSource, notes: Notes) -> list[AudioSource]:
    """Return the files that were joined to `source`."""
    head = source.read(0, 12)
    if head[:4] == b"OggS":
        links, is_ended = split_ogg(source)
        notes.has_no_end = not is_ended
        return links
    parts, start = list[AudioSource](), 0
    while head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        rest = source.part(start, source.size)
        data = find_data(rest)
        if data is None or not 0 < data.end < rest.size:
            break
        parts.append(rest.part(0, data.end))
        start += data.end
        head = source.read(start, 12)
    return [*parts, source.part(start, source.size)]


def _backends(source: AudioSource, track: int | None) -> dict[str, Backend]:
    """Return the backends in the order in which they are asked."""
    ffmpeg = partial(read_ffmpeg, track=track)
    last = partial(read_sndfile, is_last_resort=True)
    magic = source.read(0, 4)
    if magic == b"OggS" and source.size < _MAX_PAGES_BYTES and source.read(0, source.size).count(magic) <= _SHORT_PAGES:
        return {"libsndfile": last, "ffmpeg": ffmpeg}
    if magic in _PCM_MAGIC:
        return {"pcm": read_pcm, "libsndfile": read_sndfile, "ffmpeg": ffmpeg, "last resort": last}
    if source.name.lower().endswith(".gsm") and is_raw_gsm(source.read(0, SNIFF_BYTES)):
        return {"ffmpeg": partial(ffmpeg, demuxer="gsm")}
    return {"ffmpeg": ffmpeg, "libsndfile": last}


def _read_part(source: AudioSource, notes: Notes, track: int | None) -> Iterator[Block]:
    attempts = _Attempts()
    for name, backend in _backends(source, track).items():
        facts, at_s, gap_s, start_s = Facts(), 0.0, 0.0, None
        try:
            for block in backend(source, facts):
                length_s = block.samples.shape[1] / block.rate
                start_s = (block.start_s or 0.0) if start_s is None else start_s
                gap_s = gap_s if block.start_s is None else block.start_s - start_s - at_s
                skipped = round((attempts.done_s - at_s) * block.rate)
                at_s += length_s
                if skipped <= 0:
                    yield replace(block, is_lossy=facts.is_lossy)
                elif skipped < block.samples.shape[1]:
                    yield Block(block.samples[:, skipped:], block.rate, block.layout, is_lossy=facts.is_lossy)
            attempts.was_opened = True
        except (AudioError, MemoryError):
            raise
        except Exception as error:  # a library may fail in any way: the next one is asked
            attempts.failures[name] = error
        if at_s > attempts.done_s or not attempts.done_s:
            attempts.done_s, attempts.facts = at_s, facts
        facts.gap_s = gap_s
        if name not in attempts.failures and at_s and not _is_short(facts, at_s):
            break
        if facts.is_cut and at_s:
            break
    _conclude(source, attempts, notes)


def _is_short(facts: Facts, decoded_s: float) -> bool:
    """Tell whether less was decoded than the file states exactly."""
    reached_s = decoded_s + facts.gap_s + TRUNCATION_TOLERANCE_S
    return facts.is_cut or (facts.declared_s is not None and reached_s < facts.declared_s)


def _conclude(source: AudioSource, attempts: _Attempts, notes: Notes) -> None:
    """Note what was found out about a file. Raises AudioError if nothing, or not all of it, was decoded."""
    facts, done_s, name = attempts.facts, attempts.done_s, source.name
    if not done_s:
        raise AudioError(f"{name}: {_reason(attempts)}")
    notes.add(facts)
    if _is_short(facts, done_s):
        reach_s = _DAMAGE_REACH * max(facts.longest_packet_s, _SHORTEST_PACKET_S) * facts.damaged + facts.lost_s
        missing_s = (facts.declared_s or 0.0) - done_s - facts.gap_s
        if facts.is_cut and missing_s < TRUNCATION_TOLERANCE_S:
            raise AudioError(
                f"{name}: truncated, {done_s:.2f} s decoded, and its header declares more bytes than it has"
            )
        if facts.is_cut or missing_s - reach_s > TRUNCATION_TOLERANCE_S:
            raise AudioError(
                f"{name}: truncated, {done_s:.2f} s decoded of the {facts.declared_s:.2f} s its header declares"
            )
        notes.ended = (done_s, facts.declared_s or done_s)
    elif attempts.failures and not attempts.was_opened:
        notes.stopped = f"{done_s:.1f} s decoded, then {_explain(next(iter(attempts.failures.values())))}"


def _reason(attempts: _Attempts) -> str:
    error = attempts.failures.get("ffmpeg") or next(iter(attempts.failures.values()), None)
    if attempts.was_opened or error is None:
        return "holds no samples"
    return str(error) if isinstance(error, NoTrack) else f"not a recording that can be decoded ({_explain(error)})"


def _explain(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or first_line(error))

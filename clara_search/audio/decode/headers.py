"""What the headers of files state exactly: sizes of their data, and durations. Estimates are not read here."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

from clara_search.audio.decode.formats import mpeg_frame_header
from clara_search.audio.decode.source import AudioSource

ENDLESS_BYTES = 0x7FFF_0000
"""Programs that write to a pipe declare about this, or twice as much."""

_MAX_CHUNKS = 1000
_HEAD_BYTES = 1 << 16

ByteOrder = Literal["little", "big"]


@dataclass(frozen=True)
class DataChunk:
    """The samples of a WAV, AIFF, AU or CAF file.

    Attributes:
        start: Offset of the first byte of data.
        size: Bytes of data that are there.
        declared: Bytes that the header states; None if it does not know.
        fmt: The chunk "fmt " of a WAV file; empty for other formats.
        end: Where the file ends; behind it another may have been joined.
        overrides: Whether the data ends elsewhere than the header says.
    """

    start: int
    size: int
    declared: int | None
    fmt: bytes = b""
    end: int = 0
    overrides: bool = False

    @property
    def cut_share(self) -> float:
        """How many times longer the data should be: 1 for a file that is whole."""
        return self.declared / self.size if self.declared and self.size and self.declared > self.size else 1.0


def find_data(source: AudioSource) -> DataChunk | None:
    """Return where the samples of a WAV, AIFF, AU or CAF file are; None for other formats and broken headers."""
    head = source.read(0, 32)
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return _find_riff_data(source)
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return _find_chunk(source, 12, b"SSND", "big", 4)
    if head[:4] == b"caff":
        return _find_chunk(source, 8, b"data", "big", 8)
    if head[:4] == b".snd" and len(head) >= 12:
        start, declared = struct.unpack(">II", head[4:12])
        return _data(source, start, None if declared >= ENDLESS_BYTES else declared)
    return None


def _find_chunk(source: AudioSource, at: int, wanted: bytes, order: ByteOrder, size_bytes: int) -> DataChunk | None:
    for _ in range(_MAX_CHUNKS):
        header = source.read(at, 4 + size_bytes)
        if len(header) < 4 + size_bytes:
            return None
        size = int.from_bytes(header[4:], order)
        at += 4 + size_bytes
        if header[:4] == wanted:
            is_known = 0 < size < (ENDLESS_BYTES if size_bytes == 4 else 1 << 62)
            return _data(source, at, size if is_known else None)
        at += size + (size % 2 if size_bytes == 4 else 0)
    return None


def _data(source: AudioSource, start: int, declared: int | None) -> DataChunk:
    there = max(0, source.size - start)
    size = there if declared is None else min(there, declared)
    return DataChunk(start, size, declared, end=source.size)


def _find_riff_data(source: AudioSource) -> DataChunk | None:
    at, fmt, long_size = 12, b"", None
    for _ in range(_MAX_CHUNKS):
        header = source.read(at, 8)
        if len(header) < 8:
            return None
        name, size = header[:4], int.from_bytes(header[4:], "little")
        if name == b"data":
            return _riff_data(source, at + 8, size, fmt, long_size)
        if name == b"fmt ":
            fmt = source.read(at + 8, min(size, 64))
        elif name == b"ds64":
            long_size = int.from_bytes(source.read(at + 16, 8), "little")
        at += 8 + size + size % 2
    return None


def _riff_data(source: AudioSource, start: int, size: int, fmt: bytes, long_size: int | None) -> DataChunk:
    there = source.size - start
    if long_size is not None and size >= ENDLESS_BYTES:
        size = long_size if 0 < long_size < 1 << 62 else ENDLESS_BYTES
        is_known = size != ENDLESS_BYTES
    else:
        is_known = size < ENDLESS_BYTES
    if is_known and size > there:
        return DataChunk(start, there, size, fmt, source.size)
    if is_known:
        end = _end_of_chunks(source, start + size + size % 2)
        if end is not None:
            return DataChunk(start, size, size, fmt, end)
    return DataChunk(start, there, None, fmt, source.size, overrides=True)


def _end_of_chunks(source: AudioSource, at: int) -> int | None:
    """Return where a RIFF file ends whose data end at `at`; None if what follows are no chunks but more data."""
    for _ in range(_MAX_CHUNKS):
        header = source.read(at, 12)
        if len(header) < 8 or not header.strip(b"\0"):  # padding
            return source.size
        if header[:4] == b"RIFF" and header[8:12] == b"WAVE":
            return at
        size = int.from_bytes(header[4:8], "little")
        if not all(32 <= letter < 127 for letter in header[:4]) or at + 8 + size > source.size:
            return None
        at += 8 + size + size % 2
    return source.size


def flac_duration_s(head: bytes) -> float | None:
    """Return the duration that the STREAMINFO of a FLAC file states; None if it is unknown."""
    if head[:4] != b"fLaC" or len(head) < 26:
        return None
    packed = int.from_bytes(head[18:26], "big")
    rate, samples = packed >> 44, packed & (1 << 36) - 1
    return samples / rate if rate and samples else None


def mp3_duration_s(source: AudioSource) -> float | None:
    """Return the duration of an MP3 file by the number of frames in its Xing, Info or VBRI header; None without one."""
    at, head = 0, source.read(0, 10)
    if head[:3] == b"ID3" and len(head) == 10:
        at = 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    head = source.read(at, 4096)
    first = next((start for start in range(len(head) - 3) if mpeg_frame_header(head[start : start + 4])), None)
    if first is None:
        return None
    frame = head[first:]
    version, samples, rate, _ = mpeg_frame_header(frame[:4]) or (0, 0, 1, 0)
    is_mono = frame[3] >> 6 == 3
    info = 4 + ((17 if is_mono else 32) if version == 3 else (9 if is_mono else 17))
    if frame[36:40] == b"VBRI" and len(frame) >= 54:
        return int.from_bytes(frame[50:54], "big") * samples / rate
    if frame[info : info + 4] not in (b"Xing", b"Info") or len(frame) < info + 145:
        return None
    flags = int.from_bytes(frame[info + 4 : info + 8], "big")
    if not flags & 1:
        return None
    frames = int.from_bytes(frame[info + 8 : info + 12], "big")
    lame = info + 8 + 4 * bool(flags & 1) + 4 * bool(flags & 2) + 100 * bool(flags & 4) + 4 * bool(flags & 8)
    padding = int.from_bytes(frame[lame + 21 : lame + 24], "big") if frame[lame : lame + 1].isalpha() else 0
    trimmed = (padding >> 12) + (padding & 0xFFF)
    return max(0.0, (frames * samples - trimmed) / rate)


def is_matroska_cut(source: AudioSource) -> bool:
    """Tell whether a Matroska or WebM file is shorter than its segment states."""
    head = source.read(0, _HEAD_BYTES)
    if head[:4] != b"\x1a\x45\xdf\xa3":
        return False
    size, length, _ = _ebml_size(head, 4)
    at = 4 + length + size
    if head[at : at + 4] != b"\x18\x53\x80\x67":
        return False
    size, length, is_known = _ebml_size(head, at + 4)
    return is_known and at + 4 + length + size > source.size


def _ebml_size(head: bytes, at: int) -> tuple[int, int, bool]:
    """Return size, its length in bytes, and whether it is known."""
    if at >= len(head) or not head[at]:
        return 0, 1, False
    length = 9 - head[at].bit_length()
    value = int.from_bytes(head[at : at + length], "big") & (1 << 7 * length) - 1
    return value, length, value != (1 << 7 * length) - 1


_OGG_PAGE = struct.Struct("<4sBBqIIIB")
_FIRST_PAGE, _LAST_PAGE = 2, 4


def split_ogg(source: AudioSource) -> tuple[list[AudioSource], bool]:
    """Return the links of a chained Ogg file, each a file of its own, and whether its last page ends its stream."""
    starts, at, was_first, flags = [0], 0, True, 0
    with source.open() as file:
        while True:
            file.seek(at)
            header = file.read(_OGG_PAGE.size)
            if len(header) < _OGG_PAGE.size or header[:4] != b"OggS":
                skipped = _find_page(source, at + 1) if len(header) == _OGG_PAGE.size else None
                if skipped is None:
                    break
                at = skipped
                continue
            flags, segments = header[5], header[26]
            if flags & _FIRST_PAGE and not was_first:
                starts.append(at)
            was_first = bool(flags & _FIRST_PAGE)
            at += _OGG_PAGE.size + segments + sum(file.read(segments))
    ends = [*starts[1:], source.size]
    is_ended = bool(flags & _LAST_PAGE) and at <= source.size
    return [source.part(start, end) for start, end in zip(starts, ends, strict=True)], is_ended


def _find_page(source: AudioSource, at: int) -> int | None:
    """Return the offset of the next page from `at` on."""
    while at < source.size:
        content = source.read(at, _HEAD_BYTES)
        found = content.find(b"OggS")
        if found >= 0:
            return at + found
        if len(content) < _HEAD_BYTES:
            return None
        at += len(content) - 3
    return None

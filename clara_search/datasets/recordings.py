"""Recordings of examples and clips: where a manifest's row has them, their bytes, their waveforms, their hashes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol

from clara_search.audio.decode import load_audio
from clara_search.audio.segments import format_segment
from clara_search.audio.waveform import Waveform
from clara_search.datasets.manifests import ManifestRow
from clara_search.datasets.metadata import parse_text
from clara_search.errors import FormatError
from clara_search.files.gate import ForeignUri, RefusedUri, admit
from clara_search.files.paths import NamedBytes, is_url, read_bytes
from clara_search.files.shards import ByteRange, BytesSource
from clara_search.files.spelling import existing_spelling


class Recording(Protocol):
    """A recording, or a segment of one: an `Example` or a `Clip`."""

    @property
    def audio(self) -> Path | str | bytes | ByteRange:
        """Path, URL, bytes of the encoded file, or the part of a shard that holds them."""

    @property
    def start_s(self) -> float | None:
        """Start of the segment in seconds, None for the start of the recording."""

    @property
    def end_s(self) -> float | None:
        """End of the segment in seconds, None for the end of the recording."""


def locate_row(manifest: str, row: ManifestRow, where: str) -> tuple[str, Path | str | BytesSource]:
    """Return the name of a row's recording with its segment, and what to open: a path, a URL, or the recording itself.

    Args:
        manifest: Path or URL of the manifest, which the name may be relative to.
        row: The row.
        where: File and line, for errors.

    Raises:
        FormatError: The row cannot be used, names no recording, or the gate refuses the name: whoever has a manifest at
            a URL must not name the files of this machine.
    """
    if row.problem is not None:
        raise FormatError(f"{where}: {row.problem}")
    segment = format_segment(row.start_s, row.end_s)
    if row.content is not None:
        return f"{manifest}#L{row.line}" + (f"/{row.path}" if row.path else "") + segment, row.content
    if row.path is None:
        raise FormatError(f"{where} has no path")
    parse_text(row.path, f"{where}: path")
    try:
        admitted = existing_spelling(admit(ForeignUri(row.path, manifest)))
    except RefusedUri as error:
        raise FormatError(f"{where}: {error}") from error
    return row.path + segment, admitted if is_url(admitted) else Path(admitted)


def read_recording(audio: Path | str | bytes | ByteRange) -> bytes:
    """Return the bytes of the encoded file `audio`. Raises OSError, or SourceError for a URL, as `read_bytes` does."""
    if isinstance(audio, bytes):
        return audio
    return audio.read() if isinstance(audio, ByteRange) else read_bytes(audio)


def decode_recording(recording: Recording, content: bytes, sample_rate: int, name: str) -> Waveform:
    """Return the waveform of `recording`, whose bytes are `content`: mono float32 at `sample_rate` Hz, its segment cut.

    Raises:
        AudioError: It cannot be decoded, or its segment starts behind its end; the message begins with `name`.
    """
    return _decode(recording, NamedBytes(content, name), sample_rate)


def load_recording(recording: Recording, sample_rate: int) -> Waveform:
    """Read and decode a recording. Raises as `read_recording` and `decode_recording` do."""
    content, audio = read_recording(recording.audio), recording.audio
    source = NamedBytes(content, str(audio)) if isinstance(audio, (Path, str)) else content
    return _decode(recording, source, sample_rate)


def _decode(recording: Recording, source: bytes | NamedBytes, sample_rate: int) -> Waveform:
    return load_audio(source, sample_rate, recording.start_s, recording.end_s)


def hash_recording(recording: Recording, content: bytes) -> bytes:
    """Return the SHA-256 of a recording's file, `content`; of a segment that of the file's hash and the segment."""
    digest = hashlib.sha256(content).digest()
    segment = format_segment(recording.start_s, recording.end_s)
    return hashlib.sha256(digest + segment.encode()).digest() if segment else digest

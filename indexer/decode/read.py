"""Items of one file to windows of its waveform, or to the reason why they failed."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from clara_search.audio.decode.load import outside
from clara_search.audio.waveform import Waveform
from clara_search.audio.windows import Window, WindowCutter
from clara_search.errors import AudioError, ClaraError
from clara_search.files.limits import AUDIO_BYTES, DECODER_BYTES, WINDOWS
from clara_search.files.paths import FileStat, is_url, read_bytes
from clara_search.files.redact import redact
from clara_search.files.regular import open_regular, size_of
from clara_search.models.base import Embeddings
from indexer.ledger.entry import LedgerEntry
from indexer.ledger.ledger import file_stamp
from indexer.ledger.snapshot import LedgerSnapshot
from indexer.sources.item import Item, content_hash, decode_item
from indexer.transcript import Transcript

MEMORY_BYTES = 16 * 2**20
"""Files of this machine of up to this size are read whole; from larger ones the decoder takes what it needs."""

LoadState = Literal["fresh", "duplicate", "touched", "unchanged", "failed", "skipped"]
"""State of an item after its file was looked at.

- fresh: must be embedded.
- duplicate: the same content is already indexed under another URI.
- touched: only the time of modification differs.
- unchanged: not read.
- failed: could not be used.
- skipped: failed before and unchanged since.
"""


@dataclass(frozen=True)
class DecodeWindows:
    """How recordings are cut.

    Attributes:
        sample_rate: rate of the waveforms in Hz.
        window_s: length of a window in seconds.
        hop_s: seconds from one window to the next.
    """

    sample_rate: int
    window_s: float
    hop_s: float


@dataclass(frozen=True)
class LoadedItem:
    """An item after its file was looked at; the windows of a fresh recording come before it, as `LoadedWindow`s.

    Attributes:
        item: the item.
        state: its state.
        content_hash: sha256 of its file or text; None if it was not read.
        stamp: changes when its file does; empty if the file's stat cannot be trusted.
        reason: why it failed.
        windows: windows of a fresh recording.
        vectors: its vectors, shape (windows, dim), if they were reused or computed on another machine.
        is_reused: whether the vectors are those of another recording with the same content.
        moved_from: the entry of the ledger that the item takes the place of.
        kept: for each window the values that its row had there, by column.
        notes: what is out of the ordinary about a recording that was decoded.
        transcript: what it says; None: it is not known.
    """

    item: Item
    state: LoadState
    content_hash: str | None = None
    stamp: str = ""
    reason: str | None = None
    windows: tuple[Window | None, ...] = ()
    vectors: Embeddings | None = None
    is_reused: bool = False
    moved_from: LedgerEntry | None = None
    kept: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    transcript: Transcript | None = None


@dataclass(frozen=True)
class LoadedWindow:
    """The next window of a recording that is being decoded.

    Attributes:
        item: the recording, or segment of one.
        waveform: the window, shape (samples,).
        is_embedded: whether it is to be embedded; else its vector is there, and it is only transcribed.
    """

    item: Item
    waveform: Waveform = field(repr=False)
    is_embedded: bool = True


Loaded = LoadedItem | LoadedWindow
"""What decoding yields: the windows of an item one by one, then the item itself; items of a file may take turns."""


def load_items(items: list[Item], stat: FileStat, known: LedgerSnapshot, windows: DecodeWindows) -> Iterator[Loaded]:
    """Yield `items`, all of one file, as it is decoded, each after its windows."""
    hash_: str | None = None
    pending: dict[str, LoadedItem] = {}
    try:
        content, hash_ = _read_content(items[0])
        # Rows do not tell which track they are from: only those of the default one are taken over.
        is_duplicate = known.has_content(hash_) and items[0].track is None
        for item in items:
            loaded = LoadedItem(item, "duplicate" if is_duplicate else "fresh", hash_, file_stamp(item, stat))
            lacks_transcript = known.lacks_transcript(item)
            if known.is_done(item, hash_) and not lacks_transcript:
                yield replace(loaded, state="touched")
            elif is_duplicate and (known.has_transcript(hash_) or not lacks_transcript):
                yield loaded
            else:
                pending[item.key] = loaded
        if pending:
            yield from _decode(pending, content, windows)
    except Exception as error:  # a decoder may fail in any way, which costs its own file only
        reason = failure_reason(error, items[0].uri)
        for item in items if hash_ is None else [loaded.item for loaded in pending.values()]:
            stamp = file_stamp(item, stat) if hash_ else ""
            yield LoadedItem(item, "failed", hash_, stamp, reason=reason)


def reload_item(loaded: LoadedItem, windows: DecodeWindows) -> Iterator[Loaded]:
    """Yield a duplicate as a fresh item, after its windows."""
    try:
        content, _ = _read_content(loaded.item)
        yield from _decode({loaded.item.key: replace(loaded, state="fresh")}, content, windows)
    except Exception as error:
        yield LoadedItem(loaded.item, "failed", loaded.content_hash, reason=failure_reason(error, loaded.item.uri))


def bytes_to_read(item: Item, stat: FileStat) -> int:
    """Return how many bytes of a recording are in memory while it is decoded."""
    is_file = item.content is None and not is_url(item.url)
    return min(stat.size, MEMORY_BYTES) if is_file else stat.size


def _read_content(item: Item) -> tuple[bytes | Path, str]:
    """Return the content of a recording, a file that is large as its path, and the hash of the content."""
    if item.content is None and not is_url(item.url) and os.stat(item.url).st_size > MEMORY_BYTES:  # noqa: PTH116
        with open_regular(item.url) as file:
            size_of(file, item.url, AUDIO_BYTES, AudioError)
            return Path(item.url), hashlib.file_digest(file, "sha256").hexdigest()
    content = read_bytes(item.url) if item.content is None else item.content.read()
    return content, content_hash(content)


class _Segment:
    """A recording, or a segment of one, that is being cut into windows.

    Attributes:
        loaded: its item.
        first: its first sample in the recording.
        last: the one after its last sample; None: the end of the recording.
    """

    def __init__(self, loaded: LoadedItem, windows: DecodeWindows):
        item, rate = loaded.item, windows.sample_rate
        self.loaded = loaded
        self._rate = rate
        self.first = round((item.start_s or 0.0) * rate)
        self.last = None if item.end_s is None else max(round(item.end_s * rate), self.first + 1)
        self._start: int | None = None
        self._count = 0
        self._cutter = WindowCutter(rate, windows.window_s, windows.hop_s)

    def add(self, block: Waveform, at: int) -> Iterator[LoadedWindow]:
        """Yield the windows that a block, which starts at sample `at` of the recording, completes."""
        low = max(0, self.first - at)
        high = len(block) if self.last is None else min(len(block), self.last - at)
        if low < high:
            self._start = at + low if self._start is None else self._start
            for window in self._cutter.add(block[low:high]):
                self._count += 1
                WINDOWS.check(self._count, self.loaded.item.uri, AudioError)
                yield LoadedWindow(self.loaded.item, window, self.loaded.state == "fresh")

    def finish(self, start: int, end: int, notes: list[str]) -> Iterator[Loaded]:
        """Yield the last window, and the item; the recording lasts from sample `start` to `end`."""
        item = self.loaded.item
        if self._start is None:
            reason = outside(item.start_s, item.end_s, start, end, self._rate)
            yield LoadedItem(item, "failed", self.loaded.content_hash, self.loaded.stamp, reason=reason)
            return
        for window in self._cutter.finish():
            yield LoadedWindow(item, window, self.loaded.state == "fresh")
        # As the source has it, unless the sound starts later.
        is_exact = item.start_s is not None and self._start == self.first
        start_s = (item.start_s or 0.0) if is_exact else self._start / self._rate
        spans = tuple(Window(start_s + span.start_s, start_s + span.end_s) for span in self._cutter.spans())
        yield replace(self.loaded, windows=spans, notes=tuple(notes))


def _decode(pending: dict[str, LoadedItem], content: bytes | Path, windows: DecodeWindows) -> Iterator[Loaded]:
    """Yield the windows of the segments of one recording, and each segment once it is over.

    Args:
        pending: the segments by key; those that were yielded are removed.
        content: the recording.
        windows: how it is cut.

    Raises:
        AudioError: the recording cannot be decoded.
    """
    first = next(iter(pending.values())).item
    stream = decode_item(first, content, windows.sample_rate)
    waiting = deque(
        sorted((_Segment(loaded, windows) for loaded in pending.values()), key=lambda segment: segment.first)
    )
    active = list[_Segment]()
    at: int | None = None
    for block in stream:
        at = stream.start if at is None else at
        while waiting and waiting[0].first < at + len(block):
            active.append(waiting.popleft())
        for segment in active:
            yield from segment.add(block, at)
        at += len(block)
        for segment in [segment for segment in active if segment.last is not None and segment.last <= at]:
            yield from segment.finish(stream.start, at, stream.notes)
            del pending[segment.loaded.item.key]
            active.remove(segment)
        if not (active or waiting):
            return
    for segment in [*active, *waiting]:
        yield from segment.finish(stream.start, at or 0, stream.notes)
        del pending[segment.loaded.item.key]


def failure_reason(error: Exception, uri: str) -> str:
    """Return the message of an error on one line, without the name of the recording and without credentials."""
    if isinstance(error, FileNotFoundError) and is_url(uri):  # fsspec's own error says no more than the URL
        return "its server says that there is no such file"
    if isinstance(error, OSError):
        return redact(error.strerror or str(error))
    if isinstance(error, ClaraError):
        return redact(str(error)).removeprefix(f"{uri}: ")
    if isinstance(error, MemoryError):
        return f"takes more memory than there is; a decoding process has at most {DECODER_BYTES.value:,} bytes"
    return redact(f"{type(error).__name__}: {error}")

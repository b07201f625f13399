"""Items of one file to waveforms, or to the reason why they failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from clara_search.audio.segments import crop_segment
from clara_search.audio.waveform import Waveform
from clara_search.audio.windows import Window
from clara_search.errors import AudioError, ClaraError
from clara_search.files.limits import DECODER_BYTES
from clara_search.files.paths import FileStat, read_bytes
from clara_search.files.redact import redact
from clara_search.models.base import Embeddings
from indexer.ledger.ledger import LedgerEntry, LedgerSnapshot, file_stamp
from indexer.sources.item import Item, content_hash, decode_item

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
class LoadedItem:
    """An item after its file was looked at.

    Attributes:
        item: the item.
        state: its state.
        content_hash: sha256 of its file or text; None if it was not read.
        stamp: changes when its file does; empty if the file's stat cannot be trusted.
        waveform: shape (samples,), of a fresh recording without vectors.
        start_s: start of the waveform within the recording, in seconds.
        reason: why it failed.
        windows: windows of a fresh recording with vectors.
        vectors: its vectors, shape (windows, dim), if they were reused or computed on another machine.
        is_reused: whether the vectors are those of another recording with the same content.
        moved_from: the entry of the ledger that the item takes the place of.
        kept: for each window the values that its row had there, by column.
    """

    item: Item
    state: LoadState
    content_hash: str | None = None
    stamp: str = ""
    waveform: Waveform | None = None
    start_s: float = 0.0
    reason: str | None = None
    windows: tuple[Window | None, ...] = ()
    vectors: Embeddings | None = None
    is_reused: bool = False
    moved_from: LedgerEntry | None = None
    kept: tuple[Mapping[str, Any], ...] = ()


def load_items(items: list[Item], stat: FileStat, known: LedgerSnapshot, sample_rate: int) -> list[LoadedItem]:
    """Return `items`, all of one file, loaded from it; waveforms are at `sample_rate` Hz."""
    hash_, waveform, reason = None, None, None
    is_duplicate = False
    try:
        content = _read_content(items[0])
        hash_ = content_hash(content)
        is_duplicate = known.has_content(hash_)
        if not is_duplicate and not all(known.is_done(item, hash_) for item in items):
            waveform = decode_item(items[0], content, sample_rate)
    except Exception as error:  # a decoder may fail in any way, which costs its own file only
        reason = failure_reason(error, items[0].uri)
    loaded = []
    for item in items:
        stamp = file_stamp(item, stat)
        if reason is not None:
            loaded.append(LoadedItem(item, "failed", hash_, stamp if hash_ else "", reason=reason))
        elif hash_ is not None and known.is_done(item, hash_):
            loaded.append(LoadedItem(item, "touched", hash_, stamp))
        elif is_duplicate:
            loaded.append(LoadedItem(item, "duplicate", hash_, stamp))
        elif waveform is not None:
            loaded.append(_crop_to_segment(LoadedItem(item, "fresh", hash_, stamp, waveform), sample_rate))
    return loaded


def reload_item(loaded: LoadedItem, sample_rate: int) -> LoadedItem:
    """Return a duplicate as a fresh item, decoded at `sample_rate` Hz."""
    try:
        waveform = decode_item(loaded.item, _read_content(loaded.item), sample_rate)
        return _crop_to_segment(replace(loaded, state="fresh", waveform=waveform), sample_rate)
    except Exception as error:
        return LoadedItem(loaded.item, "failed", loaded.content_hash, reason=failure_reason(error, loaded.item.uri))


def _read_content(item: Item) -> bytes:
    return read_bytes(item.url) if item.content is None else item.content.read()


def _crop_to_segment(loaded: LoadedItem, sample_rate: int) -> LoadedItem:
    item, waveform = loaded.item, loaded.waveform
    assert waveform is not None
    try:
        segment = crop_segment(waveform, sample_rate, item.start_s, item.end_s)
    except AudioError as error:
        return LoadedItem(item, "failed", loaded.content_hash, loaded.stamp, reason=str(error))
    return replace(loaded, waveform=segment, start_s=item.start_s or 0.0)


def failure_reason(error: Exception, uri: str) -> str:
    """Return the message of an error on one line, without the name of the recording and without credentials."""
    if isinstance(error, OSError):
        return redact(error.strerror or str(error))
    if isinstance(error, ClaraError):
        return redact(str(error)).removeprefix(f"{uri}: ")
    if isinstance(error, MemoryError):
        return f"takes more memory than there is; a decoding process has at most {DECODER_BYTES.value:,} bytes"
    return redact(f"{type(error).__name__}: {error}")

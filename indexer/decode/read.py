"""What is made of the items of one file once it is read: waveforms, or the reason why there are none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from clara_search.audio.waveform import Waveform
from clara_search.audio.windows import Window, crop
from clara_search.errors import ClaraError
from clara_search.files.paths import FileStat, read_bytes
from clara_search.files.redact import redact
from clara_search.models.base import Embeddings
from indexer.ledger.ledger import LedgerSnapshot, file_stamp
from indexer.sources.item import Item, content_hash, decode_item

State = Literal["fresh", "known", "touched", "unchanged", "failed", "refused"]
"""To be embedded; done before under another name; done before with the same content, but the file was touched; done
before; of no use; of no use before, and not touched since."""


@dataclass(frozen=True)
class LoadedItem:
    """An item that was looked at. `content_hash` is None where it was not read, or could not be.

    `waveform`, shape (samples,), begins `start_s` into the recording; only a fresh recording has one, or else the
    `windows` and `vectors`, of a recording with the same content
    (`is_reused`) or embedded elsewhere. `reason` says why it failed.
    """

    item: Item
    state: State
    content_hash: str | None = None
    stamp: str = ""
    waveform: Waveform | None = None
    start_s: float = 0.0
    reason: str | None = None
    windows: tuple[Window | None, ...] = ()
    vectors: Embeddings | None = None
    is_reused: bool = False


def load_items(items: list[Item], status: FileStat, known: LedgerSnapshot, sample_rate: int) -> list[LoadedItem]:
    """Return `items`, all of one file, loaded from it."""
    hashed, waveform, reason = None, None, None
    is_known = False
    try:
        content = _content(items[0])
        hashed = content_hash(content)
        is_known = known.has_content(hashed)
        if not is_known and not all(known.is_done(item, hashed) for item in items):
            waveform = decode_item(items[0], content, sample_rate)
    except Exception as error:  # a decoder may fail in any way, and that costs its own file only
        reason = failure_reason(error, items[0].uri)
    found = []
    for item in items:
        stamp = file_stamp(item, status)
        if reason is not None:
            found.append(LoadedItem(item, "failed", hashed, stamp if hashed else "", reason=reason))
        elif hashed is not None and known.is_done(item, hashed):
            found.append(LoadedItem(item, "touched", hashed, stamp))
        elif is_known:
            found.append(LoadedItem(item, "known", hashed, stamp))
        elif waveform is not None:
            found.append(_stretch(LoadedItem(item, "fresh", hashed, stamp, waveform), sample_rate))
    return found


def reload_item(loaded: LoadedItem, sample_rate: int) -> LoadedItem:
    """Return `loaded`, an item that was read but not decoded, decoded."""
    try:
        waveform = decode_item(loaded.item, _content(loaded.item), sample_rate)
        return _stretch(replace(loaded, state="fresh", waveform=waveform), sample_rate)
    except Exception as error:
        return LoadedItem(loaded.item, "failed", loaded.content_hash, reason=failure_reason(error, loaded.item.uri))


def _content(item: Item) -> bytes:
    return read_bytes(item.url) if item.content is None else item.content.read()


def _stretch(loaded: LoadedItem, sample_rate: int) -> LoadedItem:
    """Cut `loaded` down to the stretch that its item asks for."""
    item, waveform = loaded.item, loaded.waveform
    assert waveform is not None
    start_s, duration_s = item.start_s or 0.0, len(waveform) / sample_rate
    if start_s >= duration_s:
        reason = f"starts at {start_s:g} s, but the recording lasts {duration_s:.2f} s"
        return LoadedItem(item, "failed", loaded.content_hash, loaded.stamp, reason=reason)
    end_s = duration_s if item.end_s is None else min(item.end_s, duration_s)
    return replace(loaded, waveform=crop(waveform, Window(start_s, end_s), sample_rate), start_s=start_s)


def failure_reason(error: Exception, uri: str) -> str:
    """Return on one line why the recording `uri` is of no use, without its name."""
    if isinstance(error, OSError):
        return redact(error.strerror or str(error))
    if isinstance(error, ClaraError):
        return redact(str(error)).removeprefix(f"{uri}: ")
    return redact(f"{type(error).__name__}: {error}")

"""What the ledger knows about an item, and the windows and ids of its rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from clara_search.audio.windows import Window, window_spans
from clara_search.store.schema import TableInfo
from clara_search.store.table import row_id
from indexer.sources.item import Item


@dataclass(frozen=True)
class LedgerRecord:
    """The outcome of an item.

    Attributes:
        item: the item.
        content_hash: sha256 of its file or text; None if it could not be read.
        stamp: changes when its file does; empty if the file's stat cannot be trusted.
        reason: why it failed; None: it is done.
        start_s: start of its first window in seconds.
        end_s: end of its last window in seconds.
        notes: what is out of the ordinary about a recording.
        captions: number of rows that it has for its texts, if it has several.
        transcriber: name and fingerprint of the model that transcribed it.
    """

    item: Item
    content_hash: str | None
    stamp: str
    reason: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    notes: tuple[str, ...] = ()
    captions: int = 0
    transcriber: str | None = None


@dataclass(frozen=True)
class LedgerEntry:
    """An item in the ledger.

    Attributes:
        key: key of the item.
        failed: whether it failed.
        source: the path or URL that listed it.
        kind: "audio" or "text".
        uri: name of the recording or text.
        file: the recording, or the file that lists the text.
        windows: windows of its rows in the corpus table (None for a text or caption).
        notes: what is out of the ordinary about a recording.
        transcriber: name and fingerprint of the model that transcribed it.
        stored_uri: `uri` as the table stores it; "": as it is.
    """

    key: str
    failed: bool
    source: str
    kind: str
    uri: str
    file: str
    windows: tuple[Window | None, ...]
    notes: tuple[str, ...] = ()
    transcriber: str | None = None
    stored_uri: str = ""

    @property
    def row_ids(self) -> list[str]:
        """Ids of its rows in the corpus table."""
        return row_ids(self.stored_uri or self.uri, self.windows)


def segment_windows(start_s: float, end_s: float, info: TableInfo) -> Iterator[Window]:
    """Yield the windows that cover a recording from `start_s` to `end_s` seconds."""
    for window in window_spans(end_s - start_s, info.window_s, info.hop_s):
        yield Window(start_s + window.start_s, start_s + window.end_s)


def row_ids(uri: str, spans: Iterable[Window | None]) -> list[str]:
    """Return the ids of the rows of `uri` for these windows (None: of a text, or of a caption behind all windows)."""
    ids, audio, texts = list[str](), list[Window](), 0
    for span in spans:
        if span is not None:
            audio.append(span)
            ids.append(row_id(uri, *span))
            continue
        texts += 1
        extent = (audio[0].start_s, audio[-1].end_s) if audio else (None, None)
        ids.append(row_id(uri if texts == 1 and not audio else uri + caption_suffix(texts), *extent))
    return ids


def caption_suffix(number: int) -> str:
    """Return what stands behind the uri in the id of a recording's caption of this number, from 1."""
    return f"#caption={number}"


def count_texts(windows: Sequence[Window | None]) -> int:
    """Return how many rows an item has for its texts, 0 if it is one text."""
    return 0 if len(windows) == 1 else sum(window is None for window in windows)

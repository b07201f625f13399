"""Embedded items as the rows of a corpus table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from clara_search.audio.windows import Window
from clara_search.store.schema import SPOKEN_WORDS
from indexer.embed.batches import EmbeddedItem
from indexer.ledger.entry import row_ids
from indexer.sources.columns import ColumnType
from indexer.sources.item import content_hash
from indexer.sources.values import convert_value
from indexer.transcript import spoken_words_type


def extent(windows: Sequence[Window | None]) -> tuple[float | None, float | None]:
    """Return start of the first and end of the last window in seconds; None for a text."""
    audio = [window for window in windows if window is not None]
    return (audio[0].start_s, audio[-1].end_s) if audio else (None, None)


def make_rows(embedded: Sequence[EmbeddedItem], columns: Mapping[str, ColumnType], dim: int) -> pa.Table:
    """Return the rows of a corpus table: one for each window or text.

    Args:
        embedded: the items.
        columns: types of their further columns.
        dim: length of their vectors.
    """
    rows = [row for item in embedded for row in _rows_of(item)]
    fields = {"start_s": pa.float64(), "end_s": pa.float64()}
    table: dict[str, Any] = {
        "id": [id_ for item in embedded for id_ in row_ids(item.item.uri, item.windows)],
        **{
            name: pa.array([row[name] for row in rows], fields.get(name, pa.string()))
            for name in ("kind", "uri", "start_s", "end_s", "text", "language", "content_hash")
        },
        "vector": pa.FixedSizeListArray.from_arrays(np.concatenate([item.vectors for item in embedded]).ravel(), dim),
    }
    if any(item.loaded.transcript is not None for item in embedded):
        table[SPOKEN_WORDS] = pa.array([row.get(SPOKEN_WORDS) for row in rows], spoken_words_type())
    items = [item.item for item in embedded for _ in item.windows]
    for name, kind in columns.items():
        table[name] = pa.array([convert_value(item.columns.get(name), kind) for item in items], kind)
    return pa.table(table)


def _rows_of(embedded: EmbeddedItem) -> Iterator[dict[str, Any]]:
    """Yield the rows of an item without id, vector and further columns: its windows, then its captions."""
    item, (start_s, end_s) = embedded.item, extent(embedded.windows)
    row = {"kind": item.kind, "uri": item.uri, "text": item.text, "language": item.language}
    row["content_hash"] = embedded.loaded.content_hash
    captions, transcript = iter(item.captions), embedded.loaded.transcript
    for window in embedded.windows:
        if window is not None:
            said = {} if transcript is None else transcript.within(window)
            yield {**row, **said, "start_s": window.start_s, "end_s": window.end_s}
        elif item.captions:
            text = next(captions)
            caption = {"kind": "text", "text": text, "content_hash": content_hash(text.encode())}
            yield {**row, **caption, "start_s": start_s, "end_s": end_s}
        elif item.kind == "audio":  # a caption that was moved with its recording, and has its text from there
            yield {**row, "kind": "text", "text": None, "start_s": start_s, "end_s": end_s}
        else:
            yield {**row, "start_s": item.start_s, "end_s": item.end_s}

"""Duplicates: recordings that are indexed under another URI take over its vectors from the table.

If nothing is left at the other URI, the recording was moved: it takes over its rows, with all their columns.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from clara_search.errors import ClaraError
from clara_search.files.paths import is_missing, is_url, split_member
from clara_search.store.schema import CORE_COLUMNS
from clara_search.store.table import Table
from indexer.decode.read import DecodeWindows, Loaded, LoadedItem, reload_item
from indexer.ledger.entry import LedgerEntry
from indexer.ledger.ledger import Ledger
from indexer.sources.item import Item
from indexer.transcript import Transcript

_LOOKUP_BATCH = 64
_TEXT_LOOKUP_BATCH = 1000
"""Duplicates are looked up in batches: each look-up reads a column of the table."""

_Rows = Mapping[str, Mapping[str, Any]]
"""Rows by id."""


def reuse_vectors(loaded: Iterable[Loaded], ledger: Ledger, table: Table, windows: DecodeWindows) -> Iterator[Loaded]:
    """Yield `loaded`; duplicates come with the vectors of the recording that has their content, or else decoded.

    Args:
        loaded: items whose files were read.
        ledger: the ledger of `table`.
        table: the table that has the vectors.
        windows: how a duplicate without vectors is decoded.
    """
    duplicates = _Duplicates(ledger, table, windows)
    recordings, texts = list[LoadedItem](), list[LoadedItem]()
    for item in loaded:
        if not isinstance(item, LoadedItem) or item.state != "duplicate":
            yield item
            continue
        waiting, batch = (recordings, _LOOKUP_BATCH) if item.item.kind == "audio" else (texts, _TEXT_LOOKUP_BATCH)
        waiting.append(item)
        if len(waiting) == batch:
            yield from duplicates.resolve(waiting)
            waiting.clear()
    yield from duplicates.resolve(recordings)
    yield from duplicates.resolve(texts)


class _Duplicates:
    """Finds the recordings and texts whose rows duplicates take over."""

    def __init__(self, ledger: Ledger, table: Table, windows: DecodeWindows):
        self._ledger = ledger
        self._table = table
        self._windows = windows
        self._moved = set[str]()
        self._folders = dict[Path, bool]()

    def resolve(self, duplicates: Sequence[LoadedItem]) -> Iterator[Loaded]:
        """Yield duplicates as fresh items with vectors, or as they are to be embedded."""
        if not duplicates:
            return
        donors = defaultdict[tuple[str, str, str], list[LedgerEntry]](list)
        for content_hash, entry in self._ledger.with_content(item.content_hash or "" for item in duplicates):
            if not any(note.startswith("track ") for note in entry.notes):  # of the default track
                donors[content_hash, entry.kind, entry.key.removeprefix(entry.uri)].append(entry)
        rows = self._rows(id_ for entries in donors.values() for entry in entries for id_ in entry.row_ids)
        for item in duplicates:
            fitting = donors.get((item.content_hash or "", item.item.kind, item.item.segment), [])
            fitting = [entry for entry in fitting if all(id_ in rows for id_ in entry.row_ids)]
            yield from self._with_rows(item, fitting, rows)

    def _rows(self, ids: Iterable[str]) -> _Rows:
        wanted = sorted(set(ids))
        rows = dict[str, dict[str, Any]]()
        for where in self._table.keys_in(wanted):
            for batch in self._table.batches(self._table.schema.names, where):
                vectors = batch["vector"].flatten().to_numpy(zero_copy_only=False).reshape(batch.num_rows, -1)
                for row, vector in zip(batch.drop_columns(["vector"]).to_pylist(), vectors, strict=True):
                    rows[row["id"]] = {**row, "vector": vector.astype(np.float32)}
        return rows

    def _with_rows(self, item: LoadedItem, donors: list[LedgerEntry], rows: _Rows) -> Iterator[Loaded]:
        origin = self._origin(item, donors)
        if item.item.kind == "text":
            # A text is not read from a file: only one that was moved has something to take over.
            if origin is None or not _same_texts(item.item, [rows[id_] for id_ in origin.row_ids]):
                yield replace(item, state="fresh")
                return
        elif not donors:  # another segment, or the rows are gone
            yield from reload_item(item, self._windows)
            return
        wants_transcript = item.item.lacks_text and item.transcript is None
        spoken = [entry for entry in donors if entry.transcriber] if wants_transcript else []
        donor = origin or (spoken or donors)[-1]
        # Captions are a recording's own, unless it was moved and has no others.
        all_rows = list(zip(donor.windows, donor.row_ids, strict=True))
        with_captions = origin is not None and not (item.item.kind == "audio" and item.item.captions)
        kept_rows = all_rows if with_captions else [(window, id_) for window, id_ in all_rows if window is not None]
        taken = [rows[id_] for _, id_ in kept_rows]
        reused = replace(
            item,
            state="fresh",
            windows=tuple(window for window, _ in kept_rows),
            vectors=np.stack([row["vector"] for row in taken]),
            is_reused=True,
            notes=item.notes if item.windows else donor.notes,  # windows: it was decoded to be transcribed
        )
        if wants_transcript and donor.transcriber:
            reused = replace(reused, transcript=Transcript.of_rows(donor.transcriber, taken))
        if origin is None:
            yield reused
            return
        self._moved.add(origin.key)
        own = {"text", "language", *self._table.schema.names} - (set(CORE_COLUMNS) - {"text", "language"})
        kept = tuple({name: row[name] for name in own} for row in taken)
        yield replace(reused, moved_from=origin, kept=kept)

    def _origin(self, item: LoadedItem, donors: Iterable[LedgerEntry]) -> LedgerEntry | None:
        """Return the entry of `donors` from which the item was moved here: the one with the most like name."""
        gone = [entry for entry in donors if entry.key not in self._moved and entry.uri != item.item.uri]
        gone = [entry for entry in gone if self._was_moved(_file_of(entry))]
        return max(gone, key=lambda entry: _length_of_common_end(entry.uri, item.item.uri), default=None)

    def _was_moved(self, file: str) -> bool:
        """Tell whether a file is gone and its folder, or the next one above it that is there, has others.

        An empty folder may be one on which nothing is mounted now: then the file is only away.
        """
        try:
            return bool(file) and is_missing(file) and self._has_entries(Path(file).parent)
        except (OSError, ValueError, ClaraError):  # ValueError: a NUL in the name
            return False

    def _has_entries(self, folder: Path) -> bool:
        if folder not in self._folders:
            try:
                with os.scandir(folder) as entries:
                    self._folders[folder] = next(entries, None) is not None
            except (FileNotFoundError, NotADirectoryError):
                self._folders[folder] = folder.parent != folder and self._has_entries(folder.parent)
        return self._folders[folder]


def _same_texts(item: Item, rows: Sequence[Mapping[str, Any]]) -> bool:
    texts = item.captions or (item.text,)
    return [(text, item.language) for text in texts] == [(row["text"], row["language"]) for row in rows]


def _file_of(entry: LedgerEntry) -> str:
    """Return the path of the file that holds a recording or text; "" if it is not one of this machine."""
    member = split_member(entry.uri)
    file = member[1] if member else entry.source if entry.uri.startswith(f"{entry.source}#") else entry.file
    is_local = bool(entry.source) and not is_url(file) and os.path.isabs(file)  # noqa: PTH117 - of very many
    return file if is_local else ""


def _length_of_common_end(first: str, second: str) -> int:
    pairs = enumerate(zip(reversed(first), reversed(second), strict=False))
    return next((length for length, (one, other) in pairs if one != other), min(len(first), len(second)))
